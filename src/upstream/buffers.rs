//! ureq's buffers. Those of a connection that idles serve another: 75 KiB each would be most of what a line costs. They tell
//! the wire whether bytes of an answer are in them, and show heads to the inspector.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::unversioned::transport::{Buffers as UreqBuffers, LazyBuffers};

use super::inspector::Inspector;
use super::wire::Wire;
use super::{INPUT_BYTES, OUTPUT_BYTES};

/// As many calls run at once on most hosts.
const SPARE_MAX: usize = 16;

/// Buffers that nothing is in. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<LazyBuffers>>>);

impl Spare {
    fn take(&self) -> LazyBuffers {
        // The last ones are still in a cache.
        self.list().pop().unwrap_or_else(|| LazyBuffers::new(INPUT_BYTES, OUTPUT_BYTES))
    }

    fn give_back(&self, buffers: LazyBuffers) {
        let mut list = self.list();
        if list.len() < SPARE_MAX {
            list.push(buffers);
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<LazyBuffers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}

/// The end of one chunk and the size line of the next, in their plainest form: 16 hex digits and two line ends.
const CHUNK_FRAMING_BYTES_MAX: usize = 20;

/// The buffers of one connection.
#[derive(Debug)]
pub(super) struct Buffers {
    /// None while nothing is in them.
    own: Option<LazyBuffers>,
    /// They were made for a long head: no other call has use for them.
    are_long: bool,
    spare: Spare,
    wire: Arc<Wire>,
    inspector: Inspector,
}

impl Buffers {
    pub(super) fn new(spare: Spare, wire: Arc<Wire>, inspector: Inspector) -> Buffers {
        Buffers { own: None, are_long: false, spare, wire, inspector }
    }

    /// The answer has been read: somebody else can use them.
    pub(super) fn rest(&mut self) {
        let own = self.own.take_if(|own| own.input().is_empty());
        if let Some(own) = own.filter(|_| !self.are_long) {
            self.spare.give_back(own);
        }
    }

    fn own(&mut self) -> &mut LazyBuffers {
        self.own.get_or_insert_with(|| {
            // ureq writes a head line by line, and the longest may be nearly all of it.
            let head_bytes = self.wire.head_bytes();
            self.are_long = head_bytes > OUTPUT_BYTES;
            if self.are_long { LazyBuffers::new(INPUT_BYTES, head_bytes) } else { self.spare.take() }
        })
    }

    /// The framing of chunks is bytes of which a read makes nothing. With more than it can hold something is sure to
    /// come, and once the last chunk is here the end.
    fn note(&self) {
        let input = self.input();
        let is_next_here = input.len() > CHUNK_FRAMING_BYTES_MAX || self.inspector.is_over();
        self.wire.story().note_buffered(input.len(), is_next_here);
    }

    /// What came with the head is brought into form, too. If that can't be done, the leg loses: nobody has the head yet.
    fn clean_rest(&mut self) {
        let rest = self.input().to_vec();
        if rest.is_empty() {
            return;
        }
        self.own().input_consume(rest.len());
        let Buffers { own: Some(own), inspector, .. } = self else { return };
        let room = &mut own.input_append_buf()[..rest.len()];
        room.copy_from_slice(&rest);
        let clean = inspector.clean(room).unwrap_or(0);
        own.input_appended(clean);
    }
}

impl UreqBuffers for Buffers {
    fn output(&mut self) -> &mut [u8] {
        self.own().output()
    }

    fn input(&self) -> &[u8] {
        self.own.as_ref().map(UreqBuffers::input).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.own().input_append_buf()
    }

    fn input_appended(&mut self, amount: usize) {
        self.own().input_appended(amount);
        self.note();
    }

    fn input_consume(&mut self, amount: usize) {
        let is_head = amount > 0 && self.inspector.awaits_head();
        let chunks_follow = is_head && self.inspector.look_at_head(&self.input()[..amount]);
        self.own().input_consume(amount);
        if chunks_follow {
            self.clean_rest();
        }
        self.note();
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.own().tmp_and_output()
    }

    fn can_use_input(&self) -> bool {
        self.own.as_ref().is_some_and(UreqBuffers::can_use_input)
    }
}
