//! Names that are looked up as a test says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use red_tentacle::upstream::Lookup;

use super::Gate;

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

    /// The first lookup finds one address. Later ones find another, once the gate is open.
    pub fn moving([old, new]: [SocketAddr; 2], gate: &Gate) -> Arc<Names> {
        let gate = gate.clone();
        Names::answering(move |_, _, number| {
            if number == 0 {
                return Ok(vec![old]);
            }
            gate.pass();
            Ok(vec![new])
        })
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
