//! A thread for the clients whose bodies go to files: only they wait for the disk, and not the poller's thread, which all
//! others need. Knows nothing of what is written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::client::Client;
use super::connection::Connection;

const STACK_BYTES: usize = 256 * 1024;

type Work = (Arc<Client>, Box<Connection>);

/// The thread, which starts when it is needed for the first time. `None` if it can't.
#[derive(Default)]
pub(super) struct Spooler(OnceLock<Option<Sender<Work>>>);

impl Spooler {
    /// Has the thread go on with a connection; it comes back if there is no thread.
    pub(super) fn take(&self, client: Arc<Client>, connection: Box<Connection>) -> Option<Box<Connection>> {
        let Some(sender) = self.0.get_or_init(start) else { return Some(connection) };
        sender.send((client, connection)).err().map(|unsent| unsent.0.1)
    }
}

fn start() -> Option<Sender<Work>> {
    // As many as there are clients can wait in it, and no client twice.
    let (sender, work) = unbounded();
    let started = thread::Builder::new().name("spooler".into()).stack_size(STACK_BYTES).spawn(move || run(&work));
    match started {
        Ok(_) => Some(sender),
        Err(error) => {
            log::warn!("bodies are written to files by the thread that waits for all sockets: {error}");
            None
        }
    }
}

/// Until the front is gone.
fn run(work: &Receiver<Work>) {
    for (client, connection) in work {
        let worked = catch_unwind(AssertUnwindSafe(|| client.work_on_disk(connection)));
        if worked.is_err() {
            client.close();
        }
    }
}
