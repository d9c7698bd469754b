//! The request that a backend gets and the meaning of its answer, by all ways that must agree, as fuzzers and property tests
//! see them.

mod answers;
mod exchange;
mod meaning;
mod reference;

use crate::message::Address;
use crate::upstream::client::transport::READ_BYTES;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::response::chunked::ChunkNormalizer;
pub use answers::from_backend;
pub use exchange::Script;
pub use meaning::data_of;

/// The bytes that are sent of a request.
pub fn sent(request: &UpstreamRequest, address: &Address) -> Vec<u8> {
    request.bytes_for(address, false).bytes()
}

/// The bytes that ureq gets of an answer's chunks that are received in these pieces.
pub fn cleaned<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, &'static str> {
    let (mut normalizer, mut clean) = (ChunkNormalizer::new(), Vec::new());
    for piece in pieces {
        let held = normalizer.held_bytes();
        let mut buffer = vec![0; held + READ_BYTES.max(piece.len())];
        normalizer.put_held(&mut buffer);
        buffer[held..held + piece.len()].copy_from_slice(piece);
        let count = normalizer.normalize(&mut buffer[..held + piece.len()])?;
        clean.extend_from_slice(&buffer[..count]);
    }
    Ok(clean)
}
