//! What a backend gets of a request, both ways that must agree, as fuzzers and property tests see it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport as UreqTransport,
};
use ureq::{Agent, Error};

use super::inspector::Inspector;
use super::line::Resolved;
use super::{INPUT_BYTES, OUTPUT_BYTES, Outgoing, Reach, config};
use crate::message::Address;

/// What is sent ahead, and what ureq writes, or why it doesn't.
pub fn written(request: &Outgoing, address: &Address) -> (Vec<u8>, Result<Vec<u8>, Error>) {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let Reach { timeout, idle_timeout, .. } = Reach::default();
    let ahead = request.ahead(address);
    let recorder = Recorder { tape: tape.clone(), output_bytes: ahead.head_bytes().max(OUTPUT_BYTES) };
    let answered = Agent::with_parts(config(timeout, idle_timeout), recorder, Resolved).run(request.for_ureq(address));
    let tape = std::mem::take(&mut *tape.lock().unwrap_or_else(PoisonError::into_inner));
    (ahead.bytes(), answered.map(|_| tape))
}

/// What ureq gets of an answer's chunks that come in these pieces.
pub fn cleaned<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, &'static str> {
    let inspector = Inspector::default();
    assert!(inspector.look_at_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
    let mut clean = Vec::new();
    for piece in pieces {
        let mut buffer = vec![0; INPUT_BYTES + piece.len()];
        let held = inspector.put_held(&mut buffer);
        let filled = held + piece.len();
        buffer[held..filled].copy_from_slice(piece);
        let count = inspector.clean(&mut buffer[..filled])?;
        clean.extend_from_slice(&buffer[..count]);
    }
    Ok(clean)
}

/// Makes connections that answer 204 to everything, and keep what was written.
struct Recorder {
    tape: Arc<Mutex<Vec<u8>>>,
    output_bytes: usize,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Connector<()> for Recorder {
    type Out = Recording;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Recording>, Error> {
        let buffers = LazyBuffers::new(INPUT_BYTES, self.output_bytes);
        Ok(Some(Recording { buffers, tape: self.tape.clone() }))
    }
}

#[derive(Debug)]
struct Recording {
    buffers: LazyBuffers,
    tape: Arc<Mutex<Vec<u8>>>,
}

impl UreqTransport for Recording {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        tape.extend_from_slice(&self.buffers.output()[..amount]);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
        self.buffers.input_append_buf()[..ANSWER.len()].copy_from_slice(ANSWER);
        self.buffers.input_appended(ANSWER.len());
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        false
    }
}
