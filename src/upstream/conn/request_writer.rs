//! A call's request on its way out: as far as that goes without waiting, then the leg waits in the poller. Knows nothing of
//! legs, nor of what an answer means.

use std::io;
use std::time::{Duration, Instant};

use crate::upstream::conn::byte_stream::{ByteStream, Peeked};
use crate::upstream::conn::request_bytes::RequestBytes;

/// So much of a file is read at once: a socket seldom takes more.
const PIECE_BYTES: usize = 64 * 1024;
/// So much is sent in one go, about a millisecond's work, before it is another leg's turn.
const STEP_BYTES: u64 = 512 * 1024;

/// The current call's request.
#[derive(Default)]
pub(crate) struct RequestWriter {
    request: Option<RequestBytes>,
    /// All of the request is on the wire.
    is_out: bool,
    /// Until when more of the request must have gone out.
    until: Option<Instant>,
}

/// What an answer means, as far as it has come, for a request that isn't out; `None` as long as its head hasn't come whole.
pub(crate) type Judge = fn(Peeked) -> Option<Early>;

/// An answer that is here before its request is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// It takes the request. The rest of that is still wanted.
    Takes,
    /// It refuses the request, or leads away from it, or is no answer: the rest needn't be sent (RFC 9112 §9.5).
    Ends,
}

/// How far a request has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is on the wire whole.
    Done,
    /// The connection takes no more before it has sent some of what it has. Until then it must.
    Blocked(Instant),
    /// The connection has taken nothing for too long.
    TimedOut,
    /// It takes more, but others wait for their turn.
    Yield,
    /// The head of an answer that takes the request is here; the rest is still to be sent.
    Answered,
    /// The rest isn't sent: it can't be, or an answer is here that says that it needn't be.
    Aborted,
}

impl RequestWriter {
    /// Begins with what is in memory. Never reads a file, never waits.
    pub(crate) fn begin(request: RequestBytes, stream: &ByteStream) -> RequestWriter {
        let mut writer = RequestWriter { request: Some(request), is_out: false, until: None };
        writer.is_out = writer.send(stream, &mut [], || None).is_ok_and(|sent| sent.stop == Stop::Done);
        writer
    }

    /// Goes on with the rest, as far as that goes without waiting, unless an answer is here. Reads files.
    pub(crate) fn send_more(&mut self, stream: &ByteStream, judge: Option<Judge>, silence_max: Duration) -> Progress {
        let is_in_file = self.request.as_ref().is_some_and(RequestBytes::is_in_file);
        let mut piece = if is_in_file { vec![0; PIECE_BYTES] } else { Vec::new() };
        let Ok(Sent { any, stop }) = self.send(stream, &mut piece, || stop_of_answer(stream, judge?)) else {
            return Progress::Aborted;
        };
        let now = Instant::now();
        let until = self.until.filter(|_| !any).unwrap_or(now + silence_max);
        self.until = Some(until);
        self.is_out = stop == Stop::Done;
        match stop {
            Stop::Done => Progress::Done,
            Stop::Yield => Progress::Yield,
            Stop::Answered => Progress::Answered,
            Stop::Blocked if now < until => Progress::Blocked(until),
            Stop::Blocked => Progress::TimedOut,
            Stop::Aborted => Progress::Aborted,
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        self.is_out
    }

    /// Whether not one byte of it has gone out.
    pub(crate) fn is_untouched(&self) -> bool {
        self.request.as_ref().is_none_or(|request| request.sent() == 0)
    }

    fn send(
        &mut self,
        stream: &ByteStream,
        piece: &mut [u8],
        stop_of_answer: impl Fn() -> Option<Stop>,
    ) -> io::Result<Sent> {
        let Some(request) = &mut self.request else { return Ok(Sent { any: false, stop: Stop::Aborted }) };
        let (mut any, step_ends) = (false, request.sent() + STEP_BYTES);
        loop {
            let (records, are_all_out) = stream.send_records()?;
            any |= records > 0;
            if are_all_out && request.is_sent() {
                return Ok(Sent { any, stop: Stop::Done });
            }
            let stop = match stop_of_answer() {
                Some(stop) => stop,
                None if !are_all_out => Stop::Blocked,
                None if request.sent() >= step_ends => Stop::Yield,
                None if request.send(piece, |parts| stream.send(parts))? == 0 => Stop::Blocked,
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
fn stop_of_answer(stream: &ByteStream, judge: Judge) -> Option<Stop> {
    let mut shown = 0;
    loop {
        let (early, here) = stream.peek(|peeked| {
            let here = peeked.bytes.len();
            (judge(peeked), here)
        });
        if early.is_some() || here == shown {
            return early.map(|early| if early == Early::Takes { Stop::Answered } else { Stop::Aborted });
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
    Done,
    Blocked,
    Yield,
    Answered,
    Aborted,
}
