//! The body of an answer: whole, or still coming. Its end puts the connection back. Knows nothing of its reader.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::message::{Outcome, Ready, Source};
use crate::runtime::cancel::CancelToken;
use crate::upstream::client::call::BodyReader;
use crate::upstream::conn::byte_stream::End;
use crate::upstream::connect::tls_error;
use crate::upstream::io_error::outcome_of_io;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::upload::SharedConnection;

/// The body of an answer.
pub enum AnswerBody {
    /// All of it has been received, and its connection is free.
    Whole(Vec<u8>),
    /// It is still coming. Its end puts the connection back; dropping it earlier hangs up.
    Streamed(Box<StreamedBody>),
}

/// A body that is still coming.
pub struct StreamedBody {
    /// ureq's reader; `None` once bytes have gone past ureq.
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
}

impl StreamedBody {
    fn prospect(&self) -> Prospect {
        let Some(pooled) = self.pooled.as_ref().filter(|_| self.left != Some(0)) else { return Prospect::Alive };
        let connection = pooled.connection();
        if !connection.has_ended() {
            return Prospect::Alive;
        }
        let failed = connection.peek(|peeked| match peeked.end {
            Some(End::Failed(error)) => Some(outcome_of_io(error)),
            Some(End::Closed) | None => None,
        });
        match self.left {
            Some(left) => match connection.unread_bytes() {
                Some(unread) if unread >= left => Prospect::Alive,
                Some(_) => Prospect::Broken(failed.unwrap_or(Outcome::Closed)),
                None => Prospect::Ended,
            },
            None => failed.map_or(Prospect::Ended, Prospect::Broken),
        }
    }

    fn note_read(&mut self, count: usize) -> io::Result<usize> {
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        // Hanging up looks like the end of a body.
        if count == 0 && self.token.is_cancelled() { Err(io::Error::other("hung up on")) } else { Ok(count) }
    }
}

impl Read for StreamedBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else { return Err(io::ErrorKind::Unsupported.into()) };
        let count = reader.read(buffer).map_err(tls_error::told)?;
        let count = self.note_read(count)?;
        self.has_ended = count == 0 && !buffer.is_empty();
        if let Some(pooled) = self.pooled.as_ref().filter(|_| self.left.is_some()) {
            // Of a body of known length ureq gives every byte that it takes out: once it holds none, the rest may go past it.
            pooled.connection().reduce_held(count);
        }
        Ok(count)
    }
}

impl Source for StreamedBody {
    fn when_ready(&mut self, ready: Ready) {
        if let Some(pooled) = &self.pooled {
            pooled.connection().set_reader(Some(ready));
        }
    }

    fn is_movable(&self) -> bool {
        // Not past the rest of a request, which needs the connection's events as well.
        self.left.is_some()
            && self.shared.is_none()
            && self.pooled.as_ref().is_some_and(|pooled| pooled.connection().is_movable())
    }

    fn move_into(&mut self, pipe: BorrowedFd, most: usize) -> io::Result<usize> {
        let Some(pooled) = &self.pooled else { return Err(io::ErrorKind::NotConnected.into()) };
        let count = pooled.connection().move_into(pipe, most)?;
        self.reader = None;
        let count = self.note_read(count)?;
        self.has_ended = self.left == Some(0);
        Ok(count)
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
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::message::{Address, Target};
    use crate::runtime::poller::Poller;
    use crate::upstream::UpstreamRequest;
    use crate::upstream::conn::parking::wait_for;
    use crate::upstream::connect::lookup::SystemLookup;
    use crate::upstream::leg::LegStep;
    use crate::upstream::shared::ConnectOptions;
    use crate::upstream::shared::Upstream;

    const BEGIN: [u8; 1000] = [b'x'; 1000];

    /// Receives the first bytes of an answer, and gives its body.
    fn streamed(url: &str) -> Box<StreamedBody> {
        let (poller, waiter) = Poller::new().expect("a poller");
        thread::spawn(move || waiter.run());
        let upstream =
            Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller).expect("no roots of its own");
        let pool = Pool::new(Address::parse(url).expect("an address"), upstream);
        let target = Target::parse(&Method::GET, "/").expect("a target");
        let (request, token) =
            (UpstreamRequest::new(Method::GET, target, HeaderMap::new(), None, None), CancelToken::default());
        let mut step = pool.start(&request, &token);
        loop {
            match step.expect("an answer") {
                LegStep::Blocked(mut pending) => {
                    wait_for(&pending.readiness(&token).expect("a wait"));
                    step = pending.step(&request, &token, false);
                }
                LegStep::Yield(pending) => step = pending.step(&request, &token, false),
                LegStep::Answered(answer) => match answer.body {
                    AnswerBody::Streamed(body) => return body,
                    AnswerBody::Whole(_) => panic!("most of it is missing"),
                },
            }
        }
    }

    /// Was seen as: no long body was moved, since what ureq had given was never taken off what it holds.
    #[test]
    fn a_long_body_can_be_moved_once_what_came_with_its_head_has_been_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let backend = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
            socket.write_all(&[&head[..], &BEGIN].concat()).expect("room");
            socket
        });
        let (mut body, mut begin) = (streamed(&url), Vec::new());
        let _socket = backend.join().expect("no panic");
        while begin.len() < BEGIN.len() {
            let mut piece = [0; 700];
            match body.read(&mut piece) {
                Ok(count) => {
                    begin.extend_from_slice(&piece[..count]);
                    assert_eq!(body.is_movable(), begin.len() == BEGIN.len(), "{}", begin.len());
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(begin, BEGIN);
    }
}
