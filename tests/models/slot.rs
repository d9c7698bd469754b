//! A model of the slot in `upstream/wire.rs` in which a leg waits for its answer: on a real pair of sockets, none of whose
//! calls waits.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::ahead::Ahead;
use crate::poller::{Poller, Turn};
use crate::race::{CancelToken, HangUp};
use crate::sync::chance;
use crate::sync::thread::{scope, yield_now};
use crate::wire::{Wake, Wire};
use shuttle::sync::Arc;

pub fn a_leg_in_the_poller_goes_on_once() {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    far.set_nonblocking(true).expect("a socket");
    let (poller, token, wire) = (Poller::default(), CancelToken::default(), Wire::new(near));
    wire.join_poller(&poller).expect("a place in the poller");
    let runs = Arc::new(AtomicUsize::new(0));
    let times_out = chance(3);
    let head_by = if times_out { Instant::now() } else { Instant::now() + Duration::from_secs(3600) };
    scope(|scope| {
        scope.spawn(|| poller.run());
        let others = [
            scope.spawn(|| answer(&far, &poller)),
            scope.spawn(|| maybe(2, || token.cancel())),
            scope.spawn(|| maybe(4, || cut(&token, &poller))),
        ];
        let waits = send(&wire, &token, head_by, &runs);
        if !waits {
            // Its line is dropped.
            wire.hang_up();
        }
        for other in others {
            other.join().expect("no panic");
        }
        poller.stop();
        assert_eq!(runs.load(Ordering::Relaxed) + usize::from(!waits), 1, "the leg goes on exactly once");
    });
}

/// The leg sends its request, as `upstream` does: whether it is left to the poller.
fn send(wire: &Arc<Wire>, token: &CancelToken, head_by: Instant, runs: &Arc<AtomicUsize>) -> bool {
    if token.arm(wire.clone()).is_err() {
        return false;
    }
    wire.begin();
    let runs = runs.clone();
    let go_on = Box::new(move || assert_eq!(runs.fetch_add(1, Ordering::Relaxed), 0));
    let is_due: Option<fn(&[u8]) -> bool> = Some(|here| here == b"answer");
    wire.send_ahead(Ahead::new(b"request".to_vec(), None), head_by, Wake { is_due, go_on }).is_ok()
}

fn maybe(one_in: u32, deed: impl FnOnce()) {
    if chance(one_in) {
        deed();
    }
}

/// The backend answers what comes in two pieces, and the poller sees an edge of each, or of a socket that was shut.
fn answer(mut far: &Socket, poller: &Poller) {
    while far.read(&mut [0; 16]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        yield_now();
    }
    for piece in [b"ans", b"wer"] {
        let is_shut = far.write(piece).is_err();
        poller.tell_all(Turn::Ready { read_closed: is_shut, dead: is_shut });
    }
}

/// The house is closed, on another thread than the poller's.
fn cut(token: &CancelToken, poller: &Poller) {
    token.cancel();
    poller.tell_all(Turn::Cut);
}
