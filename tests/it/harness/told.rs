//! The log of the proxies in this process, for tests that wait for a line of it.

use std::sync::{Mutex, Once, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{LevelFilter, Log, Metadata, Record};

use super::SOON;

static LISTENERS: Mutex<Vec<(String, Sender<String>)>> = Mutex::new(Vec::new());

/// The lines that contain a text, from now on. A text of one's own tells one's proxy from the others.
pub struct Told(Receiver<String>);

impl Told {
    pub fn about(text: &str) -> Told {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            log::set_logger(&Tap).expect("no other logger in this process");
            log::set_max_level(LevelFilter::Info);
        });
        let (sender, lines) = unbounded();
        LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).push((text.to_owned(), sender));
        Told(lines)
    }

    /// The next line.
    pub fn line(&self) -> String {
        self.0.recv_timeout(SOON).expect("a line of the log")
    }
}

struct Tap;

impl Log for Tap {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let line = record.args().to_string();
        let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|(text, listener)| !line.contains(text) || listener.send(line.clone()).is_ok());
    }

    fn flush(&self) {}
}
