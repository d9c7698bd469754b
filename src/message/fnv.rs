//! A hash of a few bytes, for what may be hit by two at once. Knows nothing of what they are.

/// Hashes by FNV-1a: quick for a few bytes, and even the lowest byte depends on every bit of them. Bytes can be
/// chosen for a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
