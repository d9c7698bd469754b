//! Names that are looked up as a test says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use red_tentacle::upstream::Lookup;

type Found = io::Result<Vec<SocketAddr>>;

/// Answers lookups by a function, and says what was asked.
pub struct Names {
    answer: Box<dyn Fn(&str, u16, usize) -> Found + Send + Sync>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    /// Answers by name, port and the number of the lookup, from 0. May wait at a gate.
    pub fn answering(answer: impl Fn(&str, u16, usize) -> Found + Send + Sync + 'static) -> Arc<Names> {
        Arc::new(Names { answer: Box::new(answer), asked: Mutex::default() })
    }

    /// Every name is this host's.
    pub fn of_this_host() -> Arc<Names> {
        Names::answering(|_, port, _| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]))
    }

    /// What has been asked for by now, as `name:port`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic among names").clone()
    }
}

impl Lookup for Names {
    fn lookup(&self, host: &str, port: u16) -> Found {
        let number = {
            let mut asked = self.asked.lock().expect("no panic among names");
            asked.push(format!("{host}:{port}"));
            asked.len() - 1
        };
        (self.answer)(host, port, number)
    }
}
