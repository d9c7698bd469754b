//! A request that is on the wire before ureq has written it, whole or in part, and how much of it ureq has wanted to write
//! since. Knows nothing of what it says.

use std::io::{self, IoSlice};

/// A body that several requests share.
pub(super) type Body = std::sync::Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The bytes of a request.
pub(super) struct Ahead {
    head: Vec<u8>,
    body: Option<Body>,
    sent: usize,
    compared: usize,
}

impl Ahead {
    pub(super) fn new(head: Vec<u8>, body: Option<Body>) -> Ahead {
        Ahead { head, body, sent: 0, compared: 0 }
    }

    /// Has all of it written, as far as that goes without waiting, and says whether it is on the wire whole. An error: nothing.
    pub(super) fn send(&mut self, write: impl FnOnce(&[IoSlice]) -> io::Result<(usize, bool)>) -> io::Result<bool> {
        let parts = self.parts().map(IoSlice::new);
        let (sent, is_out) = write(&parts)?;
        self.sent = sent;
        Ok(is_out && sent == self.length())
    }

    /// What ureq wants to write next: how much of it is on the wire already.
    pub(super) fn compare(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let [head, body] = self.parts();
        let head_left = head.get(self.compared..).unwrap_or_default();
        let body_left = body.get(self.compared.saturating_sub(head.len())..).unwrap_or_default();
        let (of_head, of_body) = bytes.split_at(head_left.len().min(bytes.len()));
        if !(head_left.starts_with(of_head) && body_left.starts_with(of_body)) {
            return Err(io::Error::other("the request that was sent isn't the one that was meant; please report this"));
        }
        let already = self.sent.saturating_sub(self.compared).min(bytes.len());
        self.compared += bytes.len();
        Ok(already)
    }

    /// All bytes, for tests.
    #[cfg(any(test, fuzzing))]
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.parts().concat()
    }

    fn parts(&self) -> [&[u8]; 2] {
        [&self.head, self.body.as_deref().map(AsRef::as_ref).unwrap_or_default()]
    }

    fn length(&self) -> usize {
        self.parts().map(<[u8]>::len).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ureq_writes_what_a_full_socket_has_not_taken_and_a_difference_is_an_error() {
        let body: Body = std::sync::Arc::new(vec![b'x'; 100]);
        let mut ahead = Ahead::new(b"head ".to_vec(), Some(body));
        assert_eq!(ahead.send(|_| Ok((50, true))).ok(), Some(false));
        assert_eq!(ahead.compare(b"he").ok(), Some(2));
        assert_eq!(ahead.compare(b"ad x").ok(), Some(4));
        assert_eq!(ahead.compare(&[b'x'; 50]).ok(), Some(44));
        assert_eq!(ahead.compare(b"xx").ok(), Some(0));
        assert!(ahead.compare(b"xy").is_err());
        assert!(ahead.send(|_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert_eq!(ahead.send(|_| Ok((105, false))).ok(), Some(false), "taken, but not on the wire");
        assert_eq!(ahead.send(|_| Ok((105, true))).ok(), Some(true));
        let mut short = Ahead::new(b"head".to_vec(), None);
        assert!(short.compare(b"head and more").is_err());
        assert!(short.compare(b"hea").is_ok() && short.compare(b"d").is_ok() && short.compare(b"x").is_err());
    }
}
