//! A thread for all that bodies' files are: it creates, writes and closes them, in the order in which that is asked for. Only
//! uploads wait for the disk, and not the poller's thread, which all others need. Knows nothing of what is written.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::client::Client;
use super::connection::Connection;

const STACK_BYTES: usize = 256 * 1024;

enum Work {
    /// What has arrived of a body goes to its file.
    Write(Arc<Client>, Box<Connection>),
    /// Nothing reads the file any more. A body that comes next is written after that, so that no more files are open than
    /// there may be.
    Close(File),
}

/// The thread, which starts when it is needed for the first time. `None` before that, and as long as the host has none.
#[derive(Default)]
pub(super) struct Spooler(Mutex<Option<Sender<Work>>>);

impl Spooler {
    /// Has the thread go on with a connection; it comes back if there is no thread.
    pub(super) fn take(&self, client: Arc<Client>, connection: Box<Connection>) -> Option<Box<Connection>> {
        match self.send(Work::Write(client, connection)) {
            Some(Work::Write(_, connection)) => Some(connection),
            _ => None,
        }
    }

    /// Has the thread close a file. Without a thread it is closed here, or descriptors would run out.
    pub(super) fn close(&self, file: File) {
        drop(self.send(Work::Close(file)));
    }

    /// The work comes back if there is no thread for it.
    fn send(&self, work: Work) -> Option<Work> {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            *sender = start();
        }
        match &*sender {
            Some(sender) => sender.send(work).err().map(|unsent| unsent.0),
            None => Some(work),
        }
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

/// Until the front is gone.
fn run(work: &Receiver<Work>) {
    for work in work {
        match work {
            Work::Write(client, connection) => {
                let worked = catch_unwind(AssertUnwindSafe(|| client.work_on_disk(connection)));
                if worked.is_err() {
                    client.close();
                }
            }
            Work::Close(file) => drop(file),
        }
    }
}
