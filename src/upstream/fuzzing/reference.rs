//! An answer as ureq by itself reads it: nothing of the proxy's own is between it and the bytes, but for the normalizing of
//! chunks.

use std::fmt;
use std::io::Read as _;

use http::header::TRANSFER_ENCODING;
use http::{Method, Request, Version};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport as UreqTransport,
};
use ureq::{Agent, Error};

use super::meaning::{Begin, Head, Meaning, data_of, is_bare};
use crate::message::Outcome;
use crate::runtime::sync::{Arc, Mutex};
use crate::upstream::client::call::{Resolved, config};
use crate::upstream::client::error::outcome_of;
use crate::upstream::response::chunked::ChunkNormalizer;

/// The bytes of a stub's head at most.
const OUTPUT_BYTES: usize = 512;

/// Reads bytes that are all received, and behind which the connection ends.
pub(crate) fn read(method: &Method, input: &[u8], begin: &Begin) -> Meaning {
    let read = by_ureq(method, input);
    match &read.head {
        // ureq refuses an interim answer by its fields, which have no meaning.
        None if begin.interim > 0 => read_final(method, &input[begin.bytes..], begin.head_bytes),
        _ => with_chunks(read, method, input, begin.bytes + begin.head_bytes),
    }
}

fn read_final(method: &Method, input: &[u8], head_bytes: usize) -> Meaning {
    with_chunks(by_ureq(method, input), method, input, head_bytes)
}

/// Reads again what may be in chunks, of which ureq takes no longer lines.
fn with_chunks(read: Meaning, method: &Method, input: &[u8], head_bytes: usize) -> Meaning {
    let is_chunked = read.head.as_ref().is_some_and(|Head { status, version, headers }| {
        !is_bare(method, *status) && *version == Version::HTTP_11 && headers.contains_key(TRANSFER_ENCODING)
    });
    if !is_chunked {
        return read;
    }
    let (head, chunks) = input.split_at(head_bytes);
    match in_form(chunks) {
        Ok(plain) => by_ureq(method, &[head, &plain].concat()),
        Err(violation) => {
            let failed = Some(Outcome::Protocol(violation.to_owned()));
            Meaning { body: data_of(chunks), failed, is_reused: false, ..read }
        }
    }
}

/// The chunks in their plainest form, and the start of a line that has no end.
fn in_form(chunks: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (mut normalizer, mut plain) = (ChunkNormalizer::new(), chunks.to_vec());
    let count = normalizer.normalize(&mut plain)?;
    plain.resize(count + normalizer.held_bytes(), 0);
    normalizer.put_held(&mut plain[count..]);
    Ok(plain)
}

fn by_ureq(method: &Method, input: &[u8]) -> Meaning {
    let tape = Tape::of(input);
    let agent = Agent::with_parts(config(), tape.clone(), Resolved);
    let stub = Request::builder().method(method).uri("http://stub.invalid/").body(());
    let mut read = Meaning::default();
    match agent.run(stub.expect("a request")) {
        Err(error) => read.failed = Some(outcome_of(error)),
        Ok(response) => {
            let (head, body) = response.into_parts();
            let failed = body.into_reader().read_to_end(&mut read.body).err();
            read.failed = failed.map(|error| match error.into() {
                // Its word for an end within a line of chunks.
                Error::BodyStalled => Outcome::Closed,
                error => outcome_of(error),
            });
            read.head = Some(Head { status: head.status, version: head.version, headers: head.headers });
        }
    }
    drop(agent);
    let state = tape.0.lock();
    read.rest = [&state.untaken[..], &state.unsent].concat();
    read.is_reused = state.is_kept && read.rest.is_empty();
    drop(state);
    read
}

/// A connection on which bytes come at once, and then its end. Clones share it.
#[derive(Clone)]
struct Tape(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    unsent: Vec<u8>,
    /// The bytes that ureq has been given and hasn't taken.
    untaken: Vec<u8>,
    /// Whether ureq would keep the connection.
    is_kept: bool,
}

impl Tape {
    fn of(input: &[u8]) -> Tape {
        Tape(Arc::new(Mutex::new(State { unsent: input.to_vec(), ..State::default() })))
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tape")
    }
}

impl Connector<()> for Tape {
    type Out = Connection;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, Error> {
        let input_bytes = self.0.lock().unsent.len().max(1);
        Ok(Some(Connection { buffers: LazyBuffers::new(input_bytes, OUTPUT_BYTES), tape: self.clone() }))
    }
}

#[derive(Debug)]
struct Connection {
    buffers: LazyBuffers,
    tape: Tape,
}

impl UreqTransport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let input = std::mem::take(&mut self.tape.0.lock().unsent);
        self.buffers.input_append_buf()[..input.len()].copy_from_slice(&input);
        self.buffers.input_appended(input.len());
        Ok(!input.is_empty())
    }

    fn is_open(&mut self) -> bool {
        self.tape.0.lock().is_kept = true;
        true
    }

    fn is_tls(&self) -> bool {
        false
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tape.0.lock().untaken = self.buffers.input().to_vec();
    }
}
