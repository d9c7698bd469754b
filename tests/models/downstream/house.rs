//! What both kinds of models have around them: what a client does with its socket, what the house does to it, and what is told.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{LazyLock, Mutex as Cell};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::Frontend;
use crate::message::{Delivery, OnDelivered};
use crate::runtime::poller::Event;
use crate::runtime::sync::atomic::{AtomicBool, Ordering};
use crate::runtime::sync::bell::{ring, wait_for};
use crate::runtime::sync::{Arc, Weak, chance, pick};

/// No wait of a model's is over before it ends.
pub const LONG: Duration = Duration::from_secs(3600);

/// What bodies are made of: no two places look alike for long.
pub static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..64 * 1024_usize).map(|at| u8::try_from((at + at / 251) % 251).expect("below 251")).collect());

/// Mostly few, since an order of few steps leaves a mistake nothing to hide behind.
pub fn any_length() -> usize {
    pick([64, 64, 64, 12 * 1024][pick(4) as usize]) as usize
}

/// What the house does while bytes are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum House {
    Open,
    Drains,
    /// It is closed, and its poller stops at once.
    Cuts,
    /// Somebody else wants the client's place.
    IsFull,
}

/// What has been told of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Whole,
    Broke,
    Gone,
    Stopped,
    Evicted,
    Panicked,
    /// Nothing, and nothing will be.
    Dropped,
}

/// Everything that has been told, each with whether the client's connection was to end with a reset by then.
pub type Ears = Arc<Cell<Vec<(Told, bool)>>>;

struct Teller {
    ears: Ears,
    client: Weak<Client>,
    has_told: bool,
}

impl Teller {
    fn tell(&mut self, told: Told) {
        let is_reset = |client: Arc<Client>| SockRef::from(&client.socket).linger().expect("a socket").is_some();
        let is_reset = self.client.upgrade().is_none_or(is_reset);
        self.ears.lock().expect("no panic").push((told, is_reset));
        self.has_told = true;
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if !self.has_told {
            self.tell(Told::Dropped);
        }
    }
}

/// Sets what others look at.
pub fn set(flag: &AtomicBool) {
    flag.store(true, Ordering::SeqCst);
    ring();
}

/// Who is to be told.
pub fn delivered(ears: &Ears, client: Weak<Client>) -> OnDelivered {
    let mut teller = Teller { ears: ears.clone(), client, has_told: false };
    Box::new(move |delivery| {
        teller.tell(match delivery {
            Delivery::Whole => Told::Whole,
            Delivery::BodyBroke(_) => Told::Broke,
            Delivery::ClientGone(_) => Told::Gone,
            Delivery::Stopped => Told::Stopped,
            Delivery::Evicted => Told::Evicted,
            Delivery::Panicked => Told::Panicked,
        });
    })
}

impl House {
    pub fn any() -> House {
        [House::Open, House::Open, House::Drains, House::Cuts, House::Cuts, House::IsFull][pick(6) as usize]
    }

    /// On a thread of its own. `has_begun`: before that nobody has made anything of its place.
    pub fn act(self, frontend: &Frontend, has_begun: &AtomicBool, is_over: &AtomicBool) {
        if self == House::IsFull || chance(2) {
            wait_for(|| (has_begun.load(Ordering::SeqCst) || is_over.load(Ordering::SeqCst)).then_some(()));
        }
        match self {
            House::Open => {}
            House::Drains => {
                frontend.draining.store(true, Ordering::SeqCst);
                frontend.poller.broadcast(Event::Drain);
            }
            House::Cuts => {
                frontend.poller.broadcast(Event::Cut);
                frontend.poller.broadcast(Event::Cut);
                frontend.poller.stop();
            }
            House::IsFull => {
                wait_for(|| {
                    let before = frontend.table.count();
                    let is_done = is_over.load(Ordering::SeqCst) || frontend.table.evict_one(Instant::now()).is_ok();
                    if frontend.table.count() != before {
                        // The look has held the client for longest, and so has closed its socket.
                        ring();
                    }
                    is_done.then_some(())
                });
                ring();
            }
        }
    }
}

/// Reads what is there, at most so much: how many bytes, `Some(0)` at the end, in whatever way it comes.
pub fn read_some(mut socket: &Socket, into: &mut Vec<u8>, most: usize) -> Option<usize> {
    // Not cleared each time: most reads bring nothing.
    static BUFFER: Cell<[u8; 4096]> = Cell::new([0; 4096]);
    let mut buffer = BUFFER.lock().expect("no panic");
    let read = socket.read(&mut buffer[..most]);
    let count = read.as_ref().copied().unwrap_or(0);
    into.extend_from_slice(&buffer[..count]);
    drop(buffer);
    if read.as_ref().is_err_and(is_wait) {
        return None;
    }
    ring();
    Some(count)
}

/// Writes what is taken: how many bytes, or that the other side takes nothing any more.
pub fn write_some(mut socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let written = match socket.write(bytes) {
        Err(error) if is_wait(&error) => 0,
        written => written?,
    };
    if written > 0 {
        ring();
    }
    Ok(written)
}

fn is_wait(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// Leaves.
pub fn leave(socket: Socket) {
    drop(socket);
    ring();
}
