//! The request of a connection on its way out: it is sent as far as that goes without waiting, then its leg parks in the
//! poller. Knows nothing of legs, nor of what an answer means.

use std::io;
use std::time::{Duration, Instant};

use crate::message::Spool;
use crate::net::byte_stream::{ByteStream, Peeked};
use crate::upstream::conn::request_bytes::{Piece, RequestBytes};

/// The connection's current request.
#[derive(Default)]
pub(crate) struct RequestWriter {
    request: Option<RequestBytes>,
    /// All of the request is on the wire.
    is_out: bool,
    /// Until when more of the request must have gone out.
    until: Option<Instant>,
}

/// Decides what an answer means, as far as it has been received, for a request that isn't out; `None` until its head is whole.
pub(crate) type Judge = fn(Peeked) -> Option<Early>;

/// The meaning of an answer that is received before its request is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// It accepts the request. The rest of that is still wanted.
    Accepts,
    /// It refuses the request, or leads away from it, or is no answer: the rest needn't be sent (RFC 9112 §9.5).
    Ends,
}

/// The result of one step of sending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is on the wire whole.
    Done,
    /// The socket takes no more before it has sent some of what it holds. It must have done so by this time.
    Blocked(Instant),
    /// The socket has taken nothing for too long.
    TimedOut,
    /// The socket may take more, which has to be read first. It must have sent some by this time.
    Yield(Instant),
    /// The head of an answer that accepts the request has been received; the rest is still to be sent.
    Answered,
    /// The rest isn't sent: it can't be, or an answer has been received that says that it needn't be.
    Aborted,
}

impl RequestWriter {
    /// Sends what is in memory. Never waits.
    pub(crate) fn begin(request: RequestBytes, stream: &ByteStream) -> RequestWriter {
        let mut writer = RequestWriter { request: Some(request), is_out: false, until: None };
        writer.is_out = writer.send(stream, || None).is_ok_and(|sent| sent.stop == Stop::Done);
        writer
    }

    /// Sends more, as far as that goes without waiting, until an answer has been received.
    pub(crate) fn send_more(&mut self, stream: &ByteStream, judge: Option<Judge>, silence_max: Duration) -> Progress {
        let Ok(Sent { any, stop }) = self.send(stream, || stop_of_answer(stream, judge?)) else {
            return Progress::Aborted;
        };
        if let Some(request) = &mut self.request {
            // What the socket hasn't taken is read again: thousands may wait.
            request.drop_piece();
        }
        let now = Instant::now();
        let until = self.until.filter(|_| !any).unwrap_or(now + silence_max);
        // What follows an answer may begin long after it.
        self.until = Some(until).filter(|_| stop != Stop::Answered);
        self.is_out = stop == Stop::Done;
        match stop {
            Stop::Done => Progress::Done,
            Stop::Yield => Progress::Yield(until),
            Stop::Answered => Progress::Answered,
            Stop::Blocked if now < until => Progress::Blocked(until),
            Stop::Blocked => Progress::TimedOut,
            Stop::Aborted => Progress::Aborted,
        }
    }

    pub(crate) fn is_out(&self) -> bool {
        self.is_out
    }

    /// The body, and the place in it of its next bytes, if it is in a file.
    pub(crate) fn place_in_file(&self) -> Option<(Spool, u64)> {
        self.request.as_ref()?.place_in_file()
    }

    /// Puts what was read of this body here, to be sent in the next step. Of another request's body nothing is taken.
    pub(crate) fn put_piece(&mut self, body: &Spool, piece: io::Result<Piece>) {
        if let Some(request) = &mut self.request {
            request.put_piece(body, piece);
        }
    }

    /// Whether no byte of the request has gone out.
    pub(crate) fn is_untouched(&self) -> bool {
        self.request.as_ref().is_none_or(|request| request.sent() == 0)
    }

    fn send(&mut self, stream: &ByteStream, stop_of_answer: impl Fn() -> Option<Stop>) -> io::Result<Sent> {
        let Some(request) = &mut self.request else { return Ok(Sent { any: false, stop: Stop::Aborted }) };
        let mut any = false;
        loop {
            let (records, are_all_out) = stream.send_records()?;
            any |= records > 0;
            if are_all_out && request.is_sent() {
                return Ok(Sent { any, stop: Stop::Done });
            }
            let stop = match stop_of_answer() {
                Some(stop) => stop,
                None if !are_all_out => Stop::Blocked,
                None => match request.send(|parts| stream.send(parts))? {
                    0 if request.awaits_piece() => Stop::Yield,
                    0 => Stop::Blocked,
                    _ => {
                        any = true;
                        continue;
                    }
                },
            };
            return Ok(Sent { any, stop });
        }
    }
}

/// The reason to stop, if an answer has been received, or an end.
fn stop_of_answer(stream: &ByteStream, judge: Judge) -> Option<Stop> {
    let mut seen = 0;
    loop {
        let (early, length) = stream.peek(|peeked| {
            let length = peeked.bytes.len();
            (judge(peeked), length)
        });
        if early.is_some() || length == seen {
            return early.map(|early| if early == Early::Accepts { Stop::Answered } else { Stop::Aborted });
        }
        // An end may stand behind these bytes, of which no other edge tells.
        seen = length;
    }
}

/// The course of one step.
struct Sent {
    any: bool,
    stop: Stop,
}

/// The reason for the end of a step.
#[derive(PartialEq, Eq)]
enum Stop {
    Done,
    Blocked,
    Yield,
    Answered,
    Aborted,
}
