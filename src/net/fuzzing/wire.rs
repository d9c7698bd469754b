//! The records of a client's on their way, and what may be done to them there.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// The longest body of a record.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;
/// The length of a record's header.
const HEADER_BYTES: usize = 5;
/// The records that are mixed in by one step: with the longest, more than a handshake may have.
const FLOOD_RECORDS: usize = 8;

/// Records that haven't come yet, in order. The first may be a rest.
#[derive(Default)]
pub(super) struct Wire(VecDeque<Vec<u8>>);

impl Wire {
    /// Puts whole records behind the others.
    pub(super) fn push_records(&mut self, mut bytes: &[u8]) {
        while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
            let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (record, behind) = bytes.split_at(length);
            self.push_back(record.to_vec());
            bytes = behind;
        }
    }

    /// Makes several of a record that is the only one, with parts of its message.
    pub(super) fn part_only(&mut self, part_bytes: usize) {
        if self.len() == 1
            && let Some(whole) = self.pop_front()
        {
            self.extend(whole[HEADER_BYTES..].chunks(part_bytes).map(|part| record(whole[0], part)));
        }
    }

    /// Mixes in records that are parts of a message without end, say.
    pub(super) fn flood(&mut self, number: usize, fill: u8) {
        let body = vec![fill; [0, 1, 4096, BODY_BYTES_MAX][number >> 2 & 3]];
        for _ in 0..FLOOD_RECORDS {
            self.push_front(record([20, 21, 22, 23][number & 3], &body));
        }
    }

    /// Changes, drops, repeats or swaps records.
    pub(super) fn disturb(&mut self, number: usize, place: u8) {
        let Some(at) = usize::from(place).checked_rem(self.len()) else { return };
        match number {
            0 => drop(self.remove(at)),
            1 => {
                let record = self[at].clone();
                self.insert(at, record);
            }
            2 => self.swap(0, at),
            3 => {
                let half = self[at].len() / 2;
                self[at].truncate(half);
            }
            // Bits of its header, and of its first and last bytes.
            _ => {
                let bit = 1 << (place >> 5);
                let record = &mut self[at];
                let at = if number < 12 { number - 4 } else { record.len().saturating_sub(number - 11) };
                if let Some(byte) = record.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}

impl Deref for Wire {
    type Target = VecDeque<Vec<u8>>;

    fn deref(&self) -> &VecDeque<Vec<u8>> {
        &self.0
    }
}

impl DerefMut for Wire {
    fn deref_mut(&mut self) -> &mut VecDeque<Vec<u8>> {
        &mut self.0
    }
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a body of a record").to_be_bytes();
    [&[kind, 3, 3], &length[..], body].concat()
}
