//! The body of an answer: whole, or still coming. Its end puts the connection back. Knows nothing of its reader.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

use crate::message::{BodySource, OnReady, Outcome};
use crate::net::byte_stream::End;
use crate::runtime::cancel::CancelToken;
use crate::upstream::client::call::BodyReader;
use crate::upstream::client::error::outcome_of_body;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::connect::tls_error;
use crate::upstream::io_error::outcome_of_io;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::upload::SharedConnection;

/// The longest body that is read to learn whether it is whole.
const SETTLED_BYTES_MAX: usize = 64 * 1024;
/// The bytes of one read of a look.
const LOOK_BYTES: usize = 4096;

/// The body of an answer.
pub enum AnswerBody {
    /// All of it has been received, and its connection is free.
    Whole(Vec<u8>),
    /// It is still coming. Its end puts the connection back; dropping it earlier hangs up.
    Streamed(Box<StreamedBody>),
}

/// A body that is still coming.
pub struct StreamedBody {
    /// Bytes that have been looked at, and are read first.
    pub(crate) begin: io::Cursor<Vec<u8>>,
    /// ureq's reader, of a body in chunks or until the end: bytes that are only counted go past it.
    pub(crate) reader: Option<BodyReader>,
    pub(crate) pooled: Option<PooledConnection>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) token: CancelToken,
    /// The count of bytes, whatever they are, behind which it ends, if that is known.
    pub(crate) left: Option<u64>,
    /// All of it has been read.
    pub(crate) has_ended: bool,
    /// Whether the backend keeps the connection open behind it.
    pub(crate) is_persistent: bool,
    /// Shares the connection with the rest of the request, if that is sent beside the body.
    pub(crate) shared: Option<Arc<SharedConnection>>,
}

/// What a look at the start of a body has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// All of it has been received.
    Whole,
    /// It goes on, and as much as was asked for has been received.
    Enough,
    /// It goes on, and less than that has been received.
    More,
    /// It has broken off.
    Broken(Outcome),
}

/// The prospect of a body that isn't read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prospect {
    /// Its connection is alive, or isn't needed any more, since all of it has been received.
    Alive,
    /// Its connection has ended: what came before may be all of it, or not.
    Ended,
    /// It will break off.
    Broken(Outcome),
}

impl AnswerBody {
    /// Looks at the connection for the body's prospect. Doesn't block.
    pub fn prospect(&self) -> Prospect {
        match self {
            AnswerBody::Whole(_) => Prospect::Alive,
            AnswerBody::Streamed(body) => body.prospect(),
        }
    }

    /// Looks for the body's prospect, and reads what may be whole or not, if it is short, so that it is known. Doesn't block.
    pub fn settle(&mut self) -> Prospect {
        match self.prospect() {
            Prospect::Ended => match self.look(SETTLED_BYTES_MAX) {
                Looked::Broken(outcome) => Prospect::Broken(outcome),
                // Nothing is left to come.
                Looked::More => Prospect::Broken(Outcome::Closed),
                Looked::Whole | Looked::Enough => Prospect::Alive,
            },
            prospect => prospect,
        }
    }

    /// Receives the start of the body, up to that many bytes, without reading it: [`AnswerBody::begin`] shows it. A body that is
    /// whole frees its connection. Doesn't block.
    pub fn look(&mut self, bytes_max: usize) -> Looked {
        let AnswerBody::Streamed(body) = self else { return Looked::Whole };
        let looked = body.look(bytes_max);
        if looked == Looked::Whole {
            *self = AnswerBody::Whole(std::mem::take(&mut body.begin).into_inner());
        }
        looked
    }

    /// The place where a leg parks that looks at a body which is still coming. Doesn't block.
    pub fn readiness(&self, until: Instant) -> Option<Arc<dyn Readiness>> {
        let AnswerBody::Streamed(body) = self else { return None };
        let connection = body.pooled.as_ref()?.connection();
        connection.set_deadline(until);
        Some(connection.clone())
    }

    /// The start of the body, as far as it has been looked at; of one that is whole, all.
    pub fn begin(&self) -> &[u8] {
        match self {
            AnswerBody::Whole(body) => body,
            AnswerBody::Streamed(body) => body.begin.get_ref(),
        }
    }
}

impl StreamedBody {
    fn prospect(&self) -> Prospect {
        let Some(pooled) = self.pooled.as_ref().filter(|_| self.left != Some(0)) else { return Prospect::Alive };
        let connection = pooled.connection();
        if !connection.has_ended() {
            return Prospect::Alive;
        }
        let failed = connection.stream().peek(|peeked| match peeked.end {
            Some(End::Failed(error)) => Some(outcome_of_io(error)),
            Some(End::Closed) | None => None,
        });
        match self.left {
            Some(left) => match connection.stream().unread_bytes() {
                Some(unread) if unread >= left => Prospect::Alive,
                Some(_) => Prospect::Broken(failed.unwrap_or(Outcome::Closed)),
                None => Prospect::Ended,
            },
            None => failed.map_or(Prospect::Ended, Prospect::Broken),
        }
    }

    fn look(&mut self, bytes_max: usize) -> Looked {
        loop {
            let length = self.begin.get_ref().len();
            let room = bytes_max.saturating_sub(length).min(LOOK_BYTES);
            if room == 0 {
                return Looked::Enough;
            }
            let mut piece = [0; LOOK_BYTES];
            match self.read_on(&mut piece[..room]) {
                Ok(0) => return Looked::Whole,
                Ok(count) => self.begin.get_mut().extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Looked::More;
                }
                Err(_) if self.token.is_cancelled() => return Looked::Broken(Outcome::Cancelled),
                Err(error) => return Looked::Broken(outcome_of_body(error)),
            }
        }
    }

    /// Reads what hasn't been looked at.
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.reader {
            Some(reader) => reader.read(buffer).map_err(tls_error::told)?,
            None => self.read_counted(buffer)?,
        };
        // Hanging up looks like the end of a body.
        if count == 0 && self.token.is_cancelled() {
            return Err(io::Error::other("hung up on"));
        }
        self.has_ended = count == 0 || self.left == Some(0);
        Ok(count)
    }

    /// Reads what is left of a body of known length.
    fn read_counted(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(left @ 1..), Some(pooled)) = (self.left, &self.pooled) else { return Ok(0) };
        let received = pooled.connection().stream().read(buffer).map_err(tls_error::told)?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(received);
        if count < received {
            // Bytes behind the answer end the connection.
            pooled.connection().stream().unread(buffer[count..received].to_vec());
        }
        self.left = Some(left - count as u64);
        Ok(count)
    }

    /// Whether all that has been looked at has been read.
    fn is_begin_read(&self) -> bool {
        self.begin.position() >= self.begin.get_ref().len() as u64
    }
}

impl Read for StreamedBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_begin_read() {
            return self.read_on(buffer);
        }
        let count = self.begin.read(buffer)?;
        if self.is_begin_read() {
            // It takes no memory while the rest streams.
            self.begin = io::Cursor::default();
        }
        Ok(count)
    }
}

impl BodySource for StreamedBody {
    fn when_ready(&mut self, ready: OnReady) {
        if let Some(pooled) = &self.pooled {
            pooled.connection().set_reader(Some(ready));
        }
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        let Some(pooled) = self.pooled.take() else { return };
        pooled.connection().set_reader(None);
        // What it holds unread goes back to the connection first.
        drop(self.reader.take());
        let is_hung_up = self.token.disarm().is_err();
        let is_free = self.has_ended && self.is_persistent && !is_hung_up;
        // What is still uploaded on it needs its events until that ends, too.
        let pooled = match &self.shared {
            Some(shared) => shared.end_answer(pooled.with_end(is_free)),
            None => Some(pooled.with_end(is_free)),
        };
        if let Some(pooled) = pooled.filter(|_| !is_hung_up) {
            self.pool.put(pooled, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::scenario::Scenario;

    const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\n";

    /// Reads what has been received: the bytes, and what ended the reading.
    fn read(body: &mut StreamedBody) -> (String, io::Result<()>) {
        let (mut bytes, mut piece) = (Vec::new(), [0; 3]);
        loop {
            match body.read(&mut piece) {
                Ok(0) => return (String::from_utf8(bytes).expect("ASCII"), Ok(())),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) => return (String::from_utf8(bytes).expect("ASCII"), Err(error)),
            }
        }
    }

    fn waits(ended: io::Result<()>) -> bool {
        ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn a_body_waits_for_what_is_missing_and_ends_where_its_head_says() {
        let rows = [("sized", SIZED, "hel", "lo"), ("in chunks", CHUNKED, "3\r\nhel\r\n2", "\r\nlo\r\n0\r\n\r\n")];
        for (label, head, begin, rest) in rows {
            let scenario = Scenario::still();
            let (mut body, _, mut backend) = scenario.streamed([head, begin].concat());
            let (bytes, ended) = read(&mut body);
            assert!(bytes == "hel" && waits(ended), "{label}");
            backend.sends(rest);
            let (bytes, ended) = read(&mut body);
            assert!(bytes == "lo" && ended.is_ok(), "{label}");
        }
    }

    #[test]
    fn the_end_of_a_body_puts_its_connection_back_if_its_backend_keeps_it() {
        let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
        let rows = [
            ("sized", SIZED, "hello", 1),
            ("in chunks", CHUNKED, "5\r\nhello\r\n0\r\n\r\n", 1),
            ("with bytes behind it", SIZED, "helloHTTP/1.1", 0),
            ("in chunks, with bytes behind them", CHUNKED, "5\r\nhello\r\n0\r\n\r\nHTTP/1.1", 0),
            ("closing", closing, "hello", 0),
        ];
        for (label, head, bytes, idle) in rows {
            let scenario = Scenario::still();
            let (mut body, _, mut backend) = scenario.streamed(head);
            backend.sends(bytes);
            let (found, ended) = read(&mut body);
            assert!(found == "hello" && ended.is_ok(), "{label}");
            assert_eq!(scenario.take_idle(), 0, "{label}: not before its reader lets it go");
            drop(body);
            assert_eq!(scenario.take_idle(), idle, "{label}");
        }
    }

    #[test]
    fn what_has_been_looked_at_is_read_first_and_all_of_it_once() {
        let rows = [
            ("sized", SIZED, "hel", "lo", Looked::More, Looked::Whole),
            ("in chunks", CHUNKED, "3\r\nhel\r\n", "2\r\nlo\r\n0\r\n\r\n", Looked::More, Looked::Whole),
            ("until the end", UNTIL_CLOSE, "hel", "lo", Looked::More, Looked::Enough),
        ];
        for (label, head, begin, rest, first, second) in rows {
            let scenario = Scenario::still();
            let (streamed, _, mut backend) = scenario.streamed([head, begin].concat());
            let mut body = AnswerBody::Streamed(streamed);
            assert_eq!((body.look(100), body.begin()), (first, &b"hel"[..]), "{label}");
            backend.sends(rest);
            let most = if second == Looked::Enough { 4 } else { 100 };
            assert_eq!(body.look(most), second, "{label}");
            match body {
                AnswerBody::Whole(whole) => {
                    assert_eq!(
                        (whole, scenario.take_idle()),
                        (b"hello".to_vec(), 1),
                        "{label}: its connection is free"
                    );
                }
                AnswerBody::Streamed(mut streamed) => {
                    let (bytes, ended) = read(&mut streamed);
                    assert!(bytes == "hello" && waits(ended), "{label}: {bytes}");
                }
            }
        }
    }

    #[test]
    fn a_look_says_what_a_body_breaks_off_with() {
        let rows = [(SIZED, "hel", Outcome::Closed), (CHUNKED, "5\r\nhel", Outcome::Closed)];
        for (head, begin, expected) in rows {
            let scenario = Scenario::still();
            let (streamed, _, backend) = scenario.streamed([head, begin].concat());
            backend.ends();
            let mut body = AnswerBody::Streamed(streamed);
            assert_eq!(body.look(100), Looked::Broken(expected.clone()), "{head}");
        }
        let scenario = Scenario::still();
        let (streamed, token, _backend) = scenario.streamed([SIZED, "hel"].concat());
        token.cancel();
        assert_eq!(AnswerBody::Streamed(streamed).look(100), Looked::Broken(Outcome::Cancelled));
    }

    #[test]
    fn a_body_that_is_dropped_before_its_end_hangs_up() {
        let scenario = Scenario::still();
        let (body, _, mut backend) = scenario.streamed([SIZED, "hel"].concat());
        drop(body);
        assert!(backend.receives_to_end().ends_with(b"\r\n\r\n"));
        assert_eq!(scenario.take_idle(), 0);
    }

    /// Hanging up shuts the socket, which looks like the end of a body that has no length.
    #[test]
    fn a_body_that_is_hung_up_on_is_cut_short() {
        for head in [SIZED, CHUNKED, UNTIL_CLOSE] {
            let scenario = Scenario::still();
            let (mut body, token, _backend) = scenario.streamed(head);
            token.cancel();
            assert!(read(&mut body).1.is_err_and(|error| error.kind() != ErrorKind::WouldBlock), "{head}");
            drop(body);
            assert_eq!(scenario.take_idle(), 0, "{head}");
        }
    }

    #[test]
    fn an_end_of_the_connection_ends_only_a_body_that_has_no_other_end() {
        for (head, bytes, is_whole) in [
            (SIZED, "hel", false),
            (CHUNKED, "5\r\nhel", false),
            (CHUNKED, "3\r\nhel\r\n", false),
            (UNTIL_CLOSE, "hel", true),
        ] {
            let scenario = Scenario::still();
            let (mut body, _, mut backend) = scenario.streamed(head);
            backend.sends(bytes);
            backend.ends();
            let (found, ended) = read(&mut body);
            assert!(found == "hel" && ended.is_ok() == is_whole, "{head}: {ended:?}");
            drop(body);
            assert_eq!(scenario.take_idle(), 0, "{head}");
        }
    }

    #[test]
    fn a_reset_ends_no_body_in_order() {
        for head in [SIZED, CHUNKED, UNTIL_CLOSE] {
            let scenario = Scenario::still();
            let (mut body, _, backend) = scenario.streamed(head);
            backend.resets();
            assert!(read(&mut body).1.is_err(), "{head}");
        }
    }

    #[test]
    fn the_prospect_of_a_body_is_that_of_its_connection_until_all_of_it_has_been_received() {
        let closed = || Prospect::Broken(Outcome::Closed);
        let rows = [
            ("sized, open", SIZED, "hel", false, Prospect::Alive),
            ("sized, ended", SIZED, "hel", true, closed()),
            ("sized, whole and ended", SIZED, "hello", true, Prospect::Alive),
            ("in chunks, open", CHUNKED, "3\r\nhel\r\n", false, Prospect::Alive),
            ("in chunks, ended", CHUNKED, "3\r\nhel\r\n", true, Prospect::Ended),
            ("until the end, open", UNTIL_CLOSE, "hel", false, Prospect::Alive),
            ("until the end, ended", UNTIL_CLOSE, "hel", true, Prospect::Ended),
        ];
        for (label, head, bytes, ends, expected) in rows {
            let scenario = Scenario::still();
            let (body, _, mut backend) = scenario.streamed(head);
            backend.sends(bytes);
            if ends {
                backend.ends();
            }
            assert_eq!(AnswerBody::Streamed(body).prospect(), expected, "{label}");
        }
        assert_eq!(AnswerBody::Whole(Vec::new()).prospect(), Prospect::Alive);
        let scenario = Scenario::still();
        let (body, _, backend) = scenario.streamed(UNTIL_CLOSE);
        backend.resets();
        assert_eq!(AnswerBody::Streamed(body).prospect(), Prospect::Broken(Outcome::Reset));
    }

    #[test]
    fn a_body_of_known_length_gives_no_byte_behind_it_and_frees_its_connection_with_its_last() {
        for (behind, idle) in [("", 1), ("HTTP/1.1", 0)] {
            let scenario = Scenario::still();
            let (mut body, _, mut backend) = scenario.streamed([SIZED, "hel"].concat());
            let mut piece = [0; 100];
            assert_eq!(body.read(&mut piece).ok(), Some(3));
            backend.sends(["lo", behind].concat());
            assert_eq!((body.read(&mut piece).ok(), &piece[..2]), (Some(2), &b"lo"[..]));
            drop(body);
            assert_eq!(scenario.take_idle(), idle, "{behind}");
        }
    }
}
