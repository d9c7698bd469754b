//! The backend's side of a tunnel: a connection that speaks another protocol, after a 101. Knows nothing of the client.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::message::{OnReady, TunnelPeer};
use crate::runtime::cancel::CancelToken;
use crate::upstream::connect::dial::clear_user_timeout;
use crate::upstream::connect::tls_error::told;
use crate::upstream::pooled::PooledConnection;

/// A connection whose protocol is switched. Dropping it hangs up.
pub struct Upgraded {
    pooled: PooledConnection,
    token: CancelToken,
}

impl Upgraded {
    /// Takes the connection over behind the head of the 101.
    pub(crate) fn new(pooled: PooledConnection, token: CancelToken) -> Upgraded {
        clear_user_timeout(pooled.connection().socket());
        Upgraded { pooled, token }
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pooled.connection().stream().read(buffer).map_err(told)
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pooled.connection().stream().write(bytes)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pooled.connection().stream().flush()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl AsFd for Upgraded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pooled.connection().as_fd()
    }
}

impl TunnelPeer for Upgraded {
    fn has_unsent(&self) -> bool {
        self.pooled.connection().stream().has_unsent()
    }

    fn end_writing(&mut self) {
        self.pooled.connection().stream().end_writing();
    }

    fn abort(&mut self) {
        self.pooled.connection().reset_at_close();
    }

    fn when_ready(&mut self, ready: OnReady) {
        self.pooled.connection().set_reader(Some(ready));
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.pooled.connection().set_reader(None);
        let _ = self.token.disarm();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::sync::Mutex;
    use crate::upstream::scenario::{Backend, SOON, Scenario, get};

    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";

    /// A tunnel, with bytes that were received with the head.
    fn tunnel(behind: &str) -> (Scenario, Upgraded, CancelToken, Backend) {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        backend.receives_head();
        backend.sends([SWITCH, behind].concat());
        let token = leg.token.clone();
        let upgraded = leg.answer().expect("an answer").upgraded.expect("a tunnel");
        (scenario, upgraded, token, backend)
    }

    fn read(upgraded: &mut Upgraded) -> io::Result<String> {
        let mut buffer = [0; 16];
        let count = upgraded.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    #[test]
    fn what_came_behind_the_head_is_read_first() {
        let (_scenario, mut upgraded, _, mut backend) = tunnel("ab");
        backend.sends("cd");
        assert_eq!(read(&mut upgraded).ok().as_deref(), Some("ab"));
        assert_eq!(read(&mut upgraded).ok().as_deref(), Some("cd"));
        assert_eq!(read(&mut upgraded).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn the_end_of_one_side_leaves_the_other_open() {
        let (_scenario, mut upgraded, _, mut backend) = tunnel("");
        backend.ends();
        assert_eq!(read(&mut upgraded).ok().as_deref(), Some(""));
        upgraded.write_all(b"more").expect("room");
        upgraded.end_writing();
        assert_eq!(backend.receives_to_end(), b"more");
    }

    #[test]
    fn the_reader_is_told_until_the_tunnel_is_dropped() {
        let (_scenario, mut upgraded, token, mut backend) = tunnel("");
        let (sender, told) = crossbeam_channel::unbounded();
        let sender = Mutex::new(sender);
        upgraded.when_ready(Arc::new(move || {
            let _ = sender.lock().send(());
        }));
        backend.sends("x");
        told.recv_timeout(SOON).expect("an event");
        token.cancel();
        drop(upgraded);
        while told.recv_timeout(SOON).is_ok() {}
        assert_eq!(told.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected), "the connection lets it go");
    }

    #[test]
    fn a_cancelled_leg_ends_its_tunnel_both_ways() {
        let (_scenario, mut upgraded, token, mut backend) = tunnel("");
        token.cancel();
        assert_eq!(backend.receives_to_end(), b"");
        assert_eq!(read(&mut upgraded).ok().as_deref(), Some(""));
        assert!(upgraded.write(b"x").is_err());
    }

    #[test]
    fn a_dropped_tunnel_hangs_up_and_its_connection_is_never_used_again() {
        let (scenario, upgraded, _, mut backend) = tunnel("ab");
        drop(upgraded);
        assert_eq!((backend.receives_to_end(), scenario.take_idle()), (Vec::new(), 0));
    }
}
