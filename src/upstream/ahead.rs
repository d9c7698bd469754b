//! A request that is on the wire before ureq has written it, whole or in part, and how much of it ureq has wanted to write
//! since. Knows nothing of what it says.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

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

    /// Sends what the socket takes without waiting, and says whether that was all. An error: nothing.
    pub(super) fn send(&mut self, socket: impl AsFd) -> Result<bool, Errno> {
        let parts = self.parts().map(IoSlice::new);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.sent = rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags)?;
        Ok(self.is_out())
    }

    /// Whether the socket has taken all of it.
    pub(super) fn is_out(&self) -> bool {
        self.sent == self.length()
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
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn ureq_writes_what_a_full_socket_has_not_taken_and_a_difference_is_an_error() {
        let (near, _far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
        let body: Body = std::sync::Arc::new(vec![b'x'; 16 * 1024 * 1024]);
        let mut ahead = Ahead::new(b"head ".to_vec(), Some(body));
        assert_eq!(ahead.send(&near), Ok(false));
        assert_eq!(ahead.compare(b"he").ok(), Some(2));
        assert_eq!(ahead.compare(b"ad x").ok(), Some(4));
        let sent = ahead.sent;
        assert!((7..16 * 1024 * 1024).contains(&sent));
        assert_eq!(ahead.compare(&vec![b'x'; sent]).ok(), Some(sent - 6));
        assert_eq!(ahead.compare(b"xx").ok(), Some(0));
        assert!(ahead.compare(b"xy").is_err());
        assert!(!ahead.is_out());
        assert_eq!(ahead.send(&near), Err(Errno::AGAIN));
        let mut short = Ahead::new(b"head".to_vec(), None);
        assert!(short.compare(b"head and more").is_err());
        assert!(short.compare(b"hea").is_ok() && short.compare(b"d").is_ok() && short.compare(b"x").is_err());
    }
}
