//! What cannot be waited for, since the kernel has it, is looked at again whenever a bell is rung: after everything that may have
//! changed it. Nobody looks over and over, so an order has few steps, and one in which nothing happens any more is a deadlock.

use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError};

shuttle::lazy_static! {
    static ref RINGS: Mutex<usize> = Mutex::new(0);
    static ref BELL: Condvar = Condvar::new();
}

fn rings() -> MutexGuard<'static, usize> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn ring() {
    *rings() += 1;
    BELL.notify_all();
}

/// Looks until there is something.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let before = *rings();
        if let Some(found) = look() {
            return found;
        }
        let mut rings = rings();
        while *rings == before {
            rings = BELL.wait(rings).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
