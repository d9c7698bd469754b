//! A call's request on its way out: as far as that goes without waiting, then the leg waits in the poller. Knows nothing of
//! legs, nor of what an answer means.

use std::io;
use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::session::Seen;
use super::wire::Wire;

/// So much of a file is read at once: a socket seldom takes more.
const PIECE_BYTES: usize = 64 * 1024;
/// So much is sent in one go, about a millisecond's work, before it is another leg's turn.
const GO_BYTES: u64 = 512 * 1024;

/// What the current call has done before ureq knows of it.
#[derive(Default)]
pub(super) struct Call {
    ahead: Option<Ahead>,
    /// All of the request is on the wire.
    is_out: bool,
    /// Until when the head of the answer must be here or, before that, more of the request have gone out.
    until: Option<Instant>,
}

/// What an answer means, by its first bytes, for a request that isn't out; `None` as long as its head isn't here whole.
pub(super) type Judge = fn(&[u8]) -> Option<Early>;

/// An answer that is here before its request is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Early {
    /// It takes the request. The rest of that is still wanted.
    Takes,
    /// It refuses the request, or leads away from it, or is no answer: the rest needn't be sent (RFC 9112 §9.5).
    Ends,
}

/// How far a request has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is on the wire whole.
    Out,
    /// The connection takes no more before it has sent some of what it has. Until then it must.
    Full(Instant),
    /// It takes more, but others wait for their turn.
    Turn,
    /// The head of an answer that takes the request is here; the rest is still to be sent.
    Answered,
    /// The rest isn't sent: it can't be, or an answer is here that says that it needn't be.
    Over,
}

impl Call {
    /// Begins with what is in memory: whether that is all, and on the wire. Never reads a file, never waits.
    pub(super) fn begin(ahead: Ahead, head_by: Instant, wire: &Wire) -> Call {
        let mut call = Call { ahead: Some(ahead), is_out: false, until: None };
        call.is_out = call.send(wire, &mut [], || None).is_ok_and(|sent| sent.stop == Stop::Out);
        call.until = call.is_out.then_some(head_by);
        call
    }

    /// Goes on with the rest, as far as that goes without waiting, unless an answer is here. Reads files.
    pub(super) fn go_on(&mut self, wire: &Wire, judge: Option<Judge>, silence_max: Duration) -> Progress {
        let is_in_file = self.ahead.as_ref().is_some_and(Ahead::is_in_file);
        let mut piece = if is_in_file { vec![0; PIECE_BYTES] } else { Vec::new() };
        let Ok(Sent { any, stop }) = self.send(wire, &mut piece, || stop_of_answer(wire, judge?)) else {
            return Progress::Over;
        };
        let now = Instant::now();
        let until = self.until.filter(|_| !any).unwrap_or(now + silence_max);
        self.until = Some(until);
        self.is_out = stop == Stop::Out;
        match stop {
            Stop::Out => Progress::Out,
            Stop::Turn => Progress::Turn,
            Stop::Answered => Progress::Answered,
            Stop::Full if now < until => Progress::Full(until),
            Stop::Full | Stop::Over => Progress::Over,
        }
    }

    /// The head of the answer must be here in time.
    pub(super) fn await_head(&mut self, head_by: Instant) {
        self.until = Some(head_by);
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn is_out(&self) -> bool {
        self.is_out
    }

    /// Whether not one byte of it has gone out.
    pub(super) fn is_untouched(&self) -> bool {
        self.ahead.as_ref().is_none_or(|ahead| ahead.sent() == 0)
    }

    /// How long its head is, in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        self.ahead.as_ref().map_or(0, Ahead::head_bytes)
    }

    /// What ureq wants to write next must be what is meant, whether it has been sent or isn't any more.
    pub(super) fn compare(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ahead.as_mut().map_or(Err(io::ErrorKind::NotConnected.into()), |ahead| ahead.compare(bytes))
    }

    fn send(&mut self, wire: &Wire, piece: &mut [u8], stop_of_answer: impl Fn() -> Option<Stop>) -> io::Result<Sent> {
        let Some(ahead) = &mut self.ahead else { return Ok(Sent { any: false, stop: Stop::Over }) };
        let (mut any, go_ends) = (false, ahead.sent() + GO_BYTES);
        loop {
            let (records, are_all_out) = wire.send_records()?;
            any |= records > 0;
            if are_all_out && ahead.is_sent() {
                return Ok(Sent { any, stop: Stop::Out });
            }
            let stop = match stop_of_answer() {
                Some(stop) => stop,
                None if !are_all_out => Stop::Full,
                None if ahead.sent() >= go_ends => Stop::Turn,
                None if ahead.send(piece, |parts| wire.send(parts))? == 0 => Stop::Full,
                None => {
                    any = true;
                    continue;
                }
            };
            return Ok(Sent { any, stop });
        }
    }
}

/// Why the sending stops, if an answer is here, or an end.
fn stop_of_answer(wire: &Wire, judge: Judge) -> Option<Stop> {
    let mut shown = 0;
    loop {
        let (early, here) = wire.look(|seen| match seen {
            Seen::Nothing => (None, 0),
            Seen::Bytes(here) | Seen::Begin(here) => (judge(here), here.len()),
            Seen::End | Seen::Failed(_) => (Some(Early::Ends), 0),
        });
        if early.is_some() || here == shown {
            return early.map(|early| if early == Early::Takes { Stop::Answered } else { Stop::Over });
        }
        // There may be an end behind them, of which no other edge tells.
        shown = here;
    }
}

/// What has happened in one go.
struct Sent {
    any: bool,
    stop: Stop,
}

/// Why it has ended.
#[derive(PartialEq, Eq)]
enum Stop {
    Out,
    Full,
    Turn,
    Answered,
    Over,
}
