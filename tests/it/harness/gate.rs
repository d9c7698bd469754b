//! A gate: closed until it is opened, for any number of threads.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::SOON;

/// Opened by dropping its sender: every waiter sees the end of the channel.
#[derive(Clone)]
pub struct Gate {
    closed: Arc<Mutex<Option<Sender<()>>>>,
    opened: Receiver<()>,
}

impl Gate {
    pub fn new() -> Gate {
        let (closed, opened) = bounded(0);
        Gate { closed: Arc::new(Mutex::new(Some(closed))), opened }
    }

    pub fn open(&self) {
        self.closed.lock().expect("no panic at the gate").take();
    }

    /// Waits until the gate is open, or much too long.
    pub fn pass(&self) {
        let _ = self.opened.recv_timeout(SOON);
    }
}
