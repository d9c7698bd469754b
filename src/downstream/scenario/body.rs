//! A backend's body, which comes when the test says so.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::panic::resume_unwind;

use http::{HeaderMap, StatusCode};

use crate::message::{BodySource, OnReady, Reply, ReplyBody};
use crate::runtime::sync::{Arc, Mutex};

/// The test's side of a body.
#[derive(Clone, Default)]
pub(crate) struct Body(Arc<Mutex<Coming>>);

#[derive(Default)]
struct Coming {
    pieces: VecDeque<io::Result<Vec<u8>>>,
    has_ended: bool,
    ready: Option<OnReady>,
    reads: usize,
    is_dropped: bool,
    /// Whether a read panics.
    panics: bool,
}

struct Source(Arc<Mutex<Coming>>);

impl Body {
    /// A body that panics when it is read.
    pub(crate) fn panicking() -> Body {
        let body = Body::default();
        body.0.lock().panics = true;
        body
    }

    pub(crate) fn reply(&self, length: Option<u64>) -> Reply {
        let body = ReplyBody::Stream { length, source: Box::new(Source(self.0.clone())) };
        Reply { status: StatusCode::OK, headers: HeaderMap::new(), body }
    }

    /// Bytes, or an error, come without an event.
    pub(crate) fn put(&self, piece: io::Result<&[u8]>) {
        self.0.lock().pieces.push_back(piece.map(<[u8]>::to_vec));
    }

    /// Bytes come, and their event is given.
    pub(crate) fn come(&self, bytes: &str) {
        self.put(Ok(bytes.as_bytes()));
        self.tell();
    }

    /// The end comes without an event.
    pub(crate) fn end(&self) {
        self.0.lock().has_ended = true;
    }

    /// Gives the event.
    pub(crate) fn tell(&self) {
        let ready = self.0.lock().ready.clone();
        ready.expect("a reply that waits")();
    }

    pub(crate) fn reads(&self) -> usize {
        self.0.lock().reads
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.0.lock().is_dropped
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut coming = self.0.lock();
        coming.reads += 1;
        if coming.panics {
            drop(coming);
            resume_unwind(Box::new("meant"));
        }
        let Some(piece) = coming.pieces.pop_front() else {
            return if coming.has_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        let mut piece = piece?;
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            piece.drain(..count);
            coming.pieces.push_front(Ok(piece));
        }
        Ok(count)
    }
}

impl BodySource for Source {
    fn when_ready(&mut self, ready: OnReady) {
        self.0.lock().ready = Some(ready);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut coming = self.0.lock();
        (coming.is_dropped, coming.ready) = (true, None);
    }
}
