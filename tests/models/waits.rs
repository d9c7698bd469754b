//! A model of the slot in `upstream/slot.rs` in which a leg waits for its answer: on a real pair of sockets, none of whose
//! calls waits.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::ahead::Ahead;
use crate::poller::{Poller, Turn};
use crate::race::{CancelToken, HangUp};
use crate::session::Seen;
use crate::slot::{IsDue, Wake};
use crate::sync::chance;
use crate::sync::channel::{Sender, bounded};
use crate::sync::thread::{scope, yield_now};
use crate::wire::Wire;
use shuttle::sync::Arc;

pub fn a_leg_in_the_poller_goes_on_once() {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    far.set_nonblocking(true).expect("a socket");
    let (poller, token, wire) = (Poller::default(), CancelToken::default(), Wire::new(near));
    wire.join_poller(&poller).expect("a place in the poller");
    let times_out = chance(3);
    let head_by = if times_out { Instant::now() } else { Instant::now() + Duration::from_secs(3600) };
    scope(|scope| {
        scope.spawn(|| poller.run());
        let others = [
            scope.spawn(|| answer(&far, &poller)),
            scope.spawn(|| maybe(2, || token.cancel())),
            scope.spawn(|| maybe(4, || cut(&token, &poller))),
        ];
        if !send_and_wait(&wire, &token, head_by) {
            // Its line is dropped.
            wire.hang_up();
        }
        for other in others {
            other.join().expect("no panic");
        }
        poller.stop();
    });
}

/// The leg sends its request and waits, as `upstream` does: whether it was left to the poller.
fn send_and_wait(wire: &Arc<Wire>, token: &CancelToken, head_by: Instant) -> bool {
    if token.arm(wire.clone()).is_err() {
        return false;
    }
    wire.begin();
    let (gone_on, goes_on) = bounded(2);
    // Whoever has lost is content with the begin of its answer, for now.
    let is_due: IsDue = if chance(2) { |here| here == b"answer" } else { |here| !here.is_empty() };
    let ahead = Ahead::new(b"request".to_vec(), None);
    if wire.send_ahead(ahead, head_by, wake(is_due, gone_on.clone())).is_err() {
        assert!(goes_on.try_recv().is_err(), "a leg that wasn't left to the poller doesn't go on");
        return false;
    }
    goes_on.recv().expect("the leg goes on");
    if !wire.is_over() && wire.look(|seen| seen == Seen::Bytes(b"ans")) {
        wire.await_more(wake(|here| here == b"answer", gone_on));
        goes_on.recv().expect("the leg goes on");
    }
    assert!(goes_on.try_recv().is_err(), "the leg goes on once");
    true
}

fn wake(is_due: IsDue, gone_on: Sender<()>) -> Wake {
    Wake { is_due: Some(is_due), go_on: Box::new(move || gone_on.send(()).expect("the leg listens")) }
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
