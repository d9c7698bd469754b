//! The surroundings of both kinds of models: what a client does with its socket, what disturbs it, and how the delivery is told.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{LazyLock, Mutex as Cell};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::downstream::client::socket::Client;
use crate::downstream::frontend::Frontend;
use crate::message::{Delivery, OnDelivered};
use crate::runtime::poller::Event;
use crate::runtime::sync::atomic::{AtomicBool, Ordering};
use crate::runtime::sync::bell::{ring, wait_for};
use crate::runtime::sync::{Arc, Weak, chance, pick};

/// A time that no model takes.
pub const LONG: Duration = Duration::from_secs(3600);

/// The content of bodies: no two places look alike for long.
pub static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..64 * 1024_usize).map(|at| u8::try_from((at + at / 251) % 251).expect("below 251")).collect());

/// Gives a length, mostly a short one, since an order of few steps leaves a mistake nothing to hide behind.
pub fn any_length() -> usize {
    pick([64, 64, 64, 12 * 1024][pick(4) as usize]) as usize
}

/// What happens in the proxy while bytes are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    None,
    Drain,
    /// A shutdown cuts all clients, and its poller stops at once.
    Cut,
    /// The connection table is full, and the client is evicted.
    Eviction,
}

/// The delivery that has been told at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Whole,
    Broke,
    Gone,
    Stopped,
    Evicted,
    Panicked,
    /// The callback was dropped, and no delivery will be told.
    Dropped,
}

/// Each delivery that has been told, with whether the client's connection was to end with a reset by then.
pub type Deliveries = Arc<Cell<Vec<(Told, bool)>>>;

struct Teller {
    deliveries: Deliveries,
    client: Weak<Client>,
    has_told: bool,
}

impl Teller {
    fn tell(&mut self, told: Told) {
        let is_reset = |client: Arc<Client>| client.socket().linger().expect("a socket").is_some();
        let is_reset = self.client.upgrade().is_none_or(is_reset);
        self.deliveries.lock().expect("no panic").push((told, is_reset));
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

/// Sets a flag that other threads wait for.
pub fn set(flag: &AtomicBool) {
    flag.store(true, Ordering::SeqCst);
    ring();
}

/// The callback for the delivery.
pub fn delivered(deliveries: &Deliveries, client: Weak<Client>) -> OnDelivered {
    let mut teller = Teller { deliveries: deliveries.clone(), client, has_told: false };
    Box::new(move |delivery| {
        teller.tell(match delivery {
            Delivery::Whole => Told::Whole,
            Delivery::BodyBroke(_) => Told::Broke,
            Delivery::ClientGone(_) | Delivery::GaveUp(_) => Told::Gone,
            Delivery::Stopped => Told::Stopped,
            Delivery::Evicted => Told::Evicted,
            Delivery::Panicked => Told::Panicked,
        });
    })
}

impl Disturbance {
    pub fn any() -> Disturbance {
        [
            Disturbance::None,
            Disturbance::None,
            Disturbance::Drain,
            Disturbance::Cut,
            Disturbance::Cut,
            Disturbance::Eviction,
        ][pick(6) as usize]
    }

    /// Acts, on a thread of its own. `has_begun`: before that there is no stream to be evicted.
    pub fn act(self, frontend: &Frontend, has_begun: &AtomicBool, is_over: &AtomicBool) {
        if self == Disturbance::Eviction || chance(2) {
            wait_for(|| (has_begun.load(Ordering::SeqCst) || is_over.load(Ordering::SeqCst)).then_some(()));
        }
        match self {
            Disturbance::None => {}
            Disturbance::Drain => {
                frontend.draining.store(true, Ordering::SeqCst);
                frontend.poller.broadcast(Event::Drain);
            }
            Disturbance::Cut => {
                frontend.poller.broadcast(Event::Cut);
                frontend.poller.broadcast(Event::Cut);
                frontend.poller.stop();
            }
            Disturbance::Eviction => {
                wait_for(|| {
                    let before = frontend.table.count();
                    let is_done = is_over.load(Ordering::SeqCst) || frontend.table.evict_one(Instant::now()).is_ok();
                    if frontend.table.count() != before {
                        // The scan has held the client for longest, and so has closed its socket.
                        ring();
                    }
                    is_done.then_some(())
                });
                ring();
            }
        }
    }
}

/// Reads what has come, at most `bytes_max`. Returns the number of bytes, `Some(0)` at the end, in whatever way it comes.
pub fn read_some(mut socket: &Socket, into: &mut Vec<u8>, bytes_max: usize) -> Option<usize> {
    // Not cleared each time: most reads bring nothing.
    static BUFFER: Cell<[u8; 4096]> = Cell::new([0; 4096]);
    let mut buffer = BUFFER.lock().expect("no panic");
    let read = socket.read(&mut buffer[..bytes_max]);
    let count = read.as_ref().copied().unwrap_or(0);
    into.extend_from_slice(&buffer[..count]);
    drop(buffer);
    if read.as_ref().is_err_and(is_wait) {
        return None;
    }
    ring();
    Some(count)
}

/// Writes what the other side takes. Returns the number of bytes, or an error if it takes nothing any more.
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

/// Closes the client's socket.
pub fn leave(socket: Socket) {
    drop(socket);
    ring();
}
