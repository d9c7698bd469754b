//! A thread that creates, writes and closes the files of bodies, in the order in which that is asked for. Only uploads wait for the
//! disk, and not the poller's thread, which all others need. Knows nothing of what is written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::runtime::sync::Mutex;

const STACK_BYTES: usize = 256 * 1024;

type Work = Box<dyn FnOnce() + Send>;

/// The thread, which starts when it is needed for the first time. `None` before that, and as long as the host refuses one.
#[derive(Default)]
pub(crate) struct DiskThread(Mutex<Option<Sender<Work>>>);

impl DiskThread {
    /// Starts the thread if need be. Returns whether it runs.
    pub(crate) fn start(&self) -> bool {
        self.sender().is_some()
    }

    /// Has the thread do some work. Without a thread it is done on the calling one.
    pub(crate) fn run(&self, work: Work) {
        let undone = match self.sender() {
            Some(sender) => sender.send(work).err().map(|unsent| unsent.0),
            None => Some(work),
        };
        if let Some(work) = undone {
            work();
        }
    }

    /// The queue of the thread, which is started if need be.
    fn sender(&self) -> Option<Sender<Work>> {
        let mut sender = self.0.lock();
        if sender.is_none() {
            *sender = spawn();
        }
        sender.clone()
    }
}

fn spawn() -> Option<Sender<Work>> {
    // Bounded by its senders: each client has at most one piece of work in it, and each body one file to be closed.
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

/// Works until the frontend is dropped. A panic has been logged by its hook, and the work itself has seen to the rest.
fn run(work: &Receiver<Work>) {
    for work in work {
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_is_done_in_order_on_one_thread_whatever_panics_in_between() {
        let (disk, (done, results)) = (DiskThread::default(), unbounded());
        for number in 0..4 {
            let done = done.clone();
            disk.run(Box::new(move || {
                done.send((number, thread::current().id())).expect("the test has the other end");
                if number == 1 {
                    resume_unwind(Box::new("meant"));
                }
            }));
        }
        let next = || results.recv_timeout(Duration::from_secs(10)).expect("it is done");
        let (first, on_thread) = next();
        assert_ne!(on_thread, thread::current().id());
        assert_eq!((first, [next(), next(), next()]), (0, [1, 2, 3].map(|number| (number, on_thread))));
    }
}
