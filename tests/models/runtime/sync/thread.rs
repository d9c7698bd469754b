//! Threads that may fail to start, as on a host that has none left.

use std::cell::Cell;
use std::io;

pub use std::thread::available_parallelism;

use shuttle::sync::mpsc;
pub use shuttle::thread::{Scope, ScopedJoinHandle, spawn, yield_now};

std::thread_local! {
    static SCARCE: Cell<bool> = const { Cell::new(false) };
}

/// Whether every second thread fails to start from now on. All threads of a model are one of the system's.
pub fn set_scarce(scarce: bool) {
    SCARCE.set(scarce);
}

/// Shuttle's own scope wakes its thread whenever no scoped one is left, whatever that thread waits for (shuttle-std 0.1.5).
/// So one is left until the scope's end.
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let (end, ended) = mpsc::channel::<()>();
    shuttle::thread::scope(|scope| {
        scope.spawn(move || ended.recv());
        let result = f(scope);
        drop(end);
        result
    })
}

#[derive(Default)]
pub struct Builder;

// A model's threads need no names, and their stacks are shuttle's.
#[allow(clippy::unused_self)]
impl Builder {
    pub fn new() -> Builder {
        Builder
    }

    pub fn name(self, _: String) -> Builder {
        self
    }

    pub fn stack_size(self, _: usize) -> Builder {
        self
    }

    pub fn spawn_scoped<'scope, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        if SCARCE.get() && super::chance(2) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(scope.spawn(f))
    }
}
