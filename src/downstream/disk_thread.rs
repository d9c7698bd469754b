//! A thread for all that bodies' files are: it creates, writes and closes them, in the order in which that is asked for. Only
//! uploads wait for the disk, and not the poller's thread, which all others need. Knows nothing of what is written.

use crate::runtime::sync::{Mutex, MutexGuard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

const STACK_BYTES: usize = 256 * 1024;

type Work = Box<dyn FnOnce() + Send>;

/// The thread, which starts when it is needed for the first time. `None` before that, and as long as the host has none.
#[derive(Default)]
pub(crate) struct DiskThread(Mutex<Option<Sender<Work>>>);

impl DiskThread {
    /// Starts the thread if need be: whether it is there.
    pub(crate) fn start(&self) -> bool {
        self.started().is_some()
    }

    /// Has the thread do some work. Without a thread it is done here.
    pub(crate) fn run(&self, work: Work) {
        let sender = self.started().clone();
        let undone = match sender {
            Some(sender) => sender.send(work).err().map(|unsent| unsent.0),
            None => Some(work),
        };
        if let Some(work) = undone {
            work();
        }
    }

    fn started(&self) -> MutexGuard<'_, Option<Sender<Work>>> {
        let mut sender = self.0.lock();
        if sender.is_none() {
            *sender = start();
        }
        sender
    }
}

fn start() -> Option<Sender<Work>> {
    // As many as there are clients can wait in it, and no client twice; and as many files as there are bodies.
    let (sender, work) = unbounded();
    let started = thread::Builder::new().name("spooler".into()).stack_size(STACK_BYTES).spawn(move || run(&work));
    match started {
        Ok(_) => Some(sender),
        Err(error) => {
            log::warn!("long bodies are refused, since the thread that writes them can't be started: {error}");
            None
        }
    }
}

/// Until the front is gone. A panic has been logged by its hook, and whose work it was has seen to the rest.
fn run(work: &Receiver<Work>) {
    for work in work {
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}
