//! The transport of ureq: a connection on which the request is, and of the answer at least the head. Gives what has been
//! received, and else says that it would have to wait. Knows nothing of how the connection was made.

use std::fmt;
use std::io;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport as UreqTransport};

use crate::runtime::sync::{Arc, Mutex};
use crate::upstream::conn::connection::Connection;
use crate::upstream::response::chunked::ChunkNormalizer;

/// The bytes of one read.
pub(crate) const READ_BYTES: usize = 16 * 1024;
/// Room for the head that ureq writes, which is sent nowhere: GET or HEAD, a host, and what it adds of its own.
const STUB_BYTES: usize = 512;

/// Gives ureq the one connection that it is called for.
pub(crate) struct PreconnectedConnector(Mutex<Option<Transport>>);

impl PreconnectedConnector {
    pub(crate) fn new(transport: Transport) -> PreconnectedConnector {
        PreconnectedConnector(Mutex::new(Some(transport)))
    }
}

impl Connector<()> for PreconnectedConnector {
    type Out = Transport;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Transport>, Error> {
        Ok(self.0.lock().take())
    }
}

impl fmt::Debug for PreconnectedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreconnectedConnector").finish_non_exhaustive()
    }
}

/// One answer on a connection.
#[derive(Debug)]
pub(crate) struct Transport {
    connection: Arc<Connection>,
    /// The count of bytes of the head that are still to be given.
    head_bytes: usize,
    /// Normalizes the body's chunks, if it comes in chunks.
    chunks: Option<ChunkNormalizer>,
    buffers: CallBuffers,
}

impl Transport {
    /// Makes the transport of an answer whose head is buffered and has `head_bytes` bytes.
    pub(crate) fn new(connection: Arc<Connection>, head_bytes: usize, is_chunked: bool) -> Transport {
        Transport {
            connection,
            head_bytes,
            chunks: is_chunked.then(ChunkNormalizer::new),
            buffers: CallBuffers::default(),
        }
    }

    /// Gives the head, and nothing of the body: that may go past ureq.
    fn give_head(&mut self) {
        let room = self.buffers.room(self.head_bytes);
        let stream = self.connection.stream();
        stream.with_peeked(|peeked| room.copy_from_slice(&peeked[..room.len()]));
        stream.consume(self.head_bytes);
        self.buffers.input_appended(std::mem::take(&mut self.head_bytes));
    }

    /// Reads what has been received. Gives the count of bytes read, and of those that ureq gets now.
    fn read(&mut self) -> Result<(usize, usize), Error> {
        let held = self.chunks.as_ref().map_or(0, ChunkNormalizer::held_bytes);
        let room = self.buffers.room(held + READ_BYTES);
        let count = self.connection.stream().read(&mut room[held..]).map_err(error_of)?;
        let Some(chunks) = &mut self.chunks else { return Ok((count, count)) };
        if count == 0 {
            // An end within a size line is no end.
            return if held > 0 { Err(error_of(io::ErrorKind::UnexpectedEof.into())) } else { Ok((0, 0)) };
        }
        chunks.put_held(room);
        let clean = chunks.normalize(&mut room[..held + count]).map_err(|violation| Error::Other(violation.into()))?;
        Ok((count, clean))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // Bytes behind the answer end the connection; ureq has no use for them.
        self.connection.stream().unread(std::mem::take(&mut self.buffers).into_unread());
    }
}

impl UreqTransport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Writes nothing: the real request is on the wire.
    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        if self.head_bytes > 0 {
            self.give_head();
            return Ok(true);
        }
        loop {
            let (count, clean) = match self.read() {
                Ok(read) => read,
                Err(error) => {
                    self.buffers.release_memory();
                    return Err(error);
                }
            };
            if clean > 0 {
                self.buffers.input_appended(clean);
                return Ok(true);
            }
            if count == 0 {
                return Ok(false);
            }
        }
    }

    /// `false`, whenever ureq asks whether to keep the connection: the pool keeps it.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        false
    }
}

/// ureq's buffers. A stream that is silent keeps no memory in them.
#[derive(Debug)]
struct CallBuffers {
    input: Vec<u8>,
    /// The ends of what is filled in `input`, and of what has been consumed.
    filled: usize,
    consumed: usize,
    has_progress: bool,
    output: [u8; STUB_BYTES],
}

impl Default for CallBuffers {
    fn default() -> CallBuffers {
        CallBuffers { input: Vec::new(), filled: 0, consumed: 0, has_progress: false, output: [0; STUB_BYTES] }
    }
}

impl CallBuffers {
    /// Makes room for `count` bytes behind those that are buffered.
    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.consumed == self.filled {
            (self.filled, self.consumed) = (0, 0);
        }
        if self.input.len() < self.filled + count {
            self.input.resize(self.filled + count, 0);
        }
        &mut self.input[self.filled..self.filled + count]
    }

    /// Releases the memory, if it holds nothing.
    fn release_memory(&mut self) {
        if self.consumed == self.filled {
            (self.input, self.filled, self.consumed) = (Vec::new(), 0, 0);
        }
    }

    fn into_unread(mut self) -> Vec<u8> {
        self.input.truncate(self.filled);
        self.input.split_off(self.consumed)
    }
}

impl Buffers for CallBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.room(READ_BYTES)
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.has_progress = amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.consumed < self.filled && self.has_progress
    }
}

fn error_of(error: io::Error) -> Error {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        // ureq takes these for the end of a body that has no length, and reports success: a reset, or a TLS connection that
        // ended without `close_notify`.
        ConnectionAborted | ConnectionReset | UnexpectedEof => Error::Other(Box::new(error)),
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connect::connecting::Established;
    use crate::upstream::scenario::{Backend, Scenario};

    const HEAD: &str = "HTTP/1.1 200 OK\r\n\r\n";

    /// What ureq speaks through once a head has been received, and bytes behind it.
    fn transport(body: &str, is_chunked: bool) -> (Scenario, Established, Transport, Backend) {
        let scenario = Scenario::still();
        let (established, mut backend) = scenario.connection();
        backend.sends([HEAD, body].concat());
        let connection = established.connection.get().clone();
        connection.stream().peek(|peeked| assert!(peeked.bytes.starts_with(HEAD.as_bytes())));
        let transport = Transport::new(connection, HEAD.len(), is_chunked);
        (scenario, established, transport, backend)
    }

    /// What ureq finds in its buffer after the next read, or why it finds nothing; `None` at the end.
    fn next(transport: &mut Transport) -> Result<Option<String>, io::ErrorKind> {
        let has_input = transport.await_input(NextTimeout::default()).map_err(|error| match error {
            Error::Io(error) => error.kind(),
            Error::Other(error) => {
                error.downcast::<io::Error>().map_or(io::ErrorKind::InvalidData, |error| error.kind())
            }
            error => panic!("{error}"),
        })?;
        let input = String::from_utf8(transport.buffers.input().to_vec()).expect("ASCII");
        transport.buffers.input_consume(input.len());
        Ok(has_input.then_some(input))
    }

    #[test]
    fn ureq_gets_the_head_alone_first() {
        let (_scenario, _established, mut transport, mut backend) = transport("abc", false);
        assert_eq!(next(&mut transport), Ok(Some(HEAD.to_owned())));
        assert_eq!(next(&mut transport), Ok(Some("abc".to_owned())));
        assert_eq!(next(&mut transport), Err(io::ErrorKind::WouldBlock));
        backend.sends("def");
        assert_eq!(next(&mut transport), Ok(Some("def".to_owned())));
        backend.ends();
        assert_eq!(next(&mut transport), Ok(None));
    }

    #[test]
    fn what_ureq_has_not_taken_goes_back_to_the_connection() {
        let (_scenario, established, mut transport, mut backend) = transport("abc", false);
        next(&mut transport).expect("the head");
        assert!(transport.await_input(NextTimeout::default()).is_ok());
        transport.buffers.input_consume(1);
        backend.sends("def");
        drop(transport);
        let mut buffer = [0; 8];
        let stream = established.connection.get().stream();
        let counts = [stream.read(&mut buffer[..2]).ok(), stream.read(&mut buffer[2..]).ok()];
        assert!(counts == [Some(2), Some(3)] && buffer.starts_with(b"bcdef"));
    }

    #[test]
    fn chunks_are_given_in_their_plainest_form_and_lines_as_a_whole() {
        let (_scenario, _established, mut transport, mut backend) = transport("0003;name=value\r\nabc\r\n00", true);
        next(&mut transport).expect("the head");
        assert_eq!(next(&mut transport), Ok(Some("3\r\nabc\r\n".to_owned())));
        assert_eq!(next(&mut transport), Err(io::ErrorKind::WouldBlock), "half a line");
        backend.sends("01\r\nd\r\n");
        assert_eq!(next(&mut transport), Ok(Some("1\r\nd\r\n".to_owned())));
    }

    #[test]
    fn an_end_within_a_line_of_chunks_is_no_end_in_order() {
        let (_scenario, _established, mut transport, backend) = transport("3\r\nabc\r\n0", true);
        next(&mut transport).expect("the head");
        next(&mut transport).expect("a chunk");
        backend.ends();
        assert_eq!(next(&mut transport), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn chunks_that_are_none_are_an_error() {
        let (_scenario, _established, mut transport, _backend) = transport("x\r\n", true);
        next(&mut transport).expect("the head");
        assert_eq!(next(&mut transport), Err(io::ErrorKind::InvalidData));
    }

    /// ureq would take it for the end of a body that has no length.
    #[test]
    fn a_reset_is_no_end_in_order() {
        let (_scenario, established, mut transport, backend) = transport("", false);
        next(&mut transport).expect("the head");
        established.connection.get().stream().send(&[io::IoSlice::new(b"unread")]).expect("room");
        backend.resets();
        assert_eq!(next(&mut transport), Err(io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_stream_that_is_silent_keeps_no_buffer() {
        let (_scenario, _established, mut transport, _backend) = transport("abc", false);
        next(&mut transport).expect("the head");
        next(&mut transport).expect("a body");
        assert!(transport.buffers.input.capacity() > 0);
        assert_eq!(next(&mut transport), Err(io::ErrorKind::WouldBlock));
        assert_eq!(transport.buffers.input.capacity(), 0);
    }
}
