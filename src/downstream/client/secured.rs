//! What is another thing with clients that speak TLS: what is read goes through it, what is written is held by it until the socket
//! takes it, and a handshake comes first. Plain clients pass by.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::access_log;
use crate::downstream::client::socket::{Client, ClientStatus, Received};
use crate::downstream::eviction::Activity;
use crate::downstream::h1::protocol::{Http1, READ_BYTES};
use crate::net::client_failure;

impl Client {
    /// Sends what TLS holds, as far as that goes without waiting. Returns whether nothing is left.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        if self.peer.is_tls { self.stream.flush() } else { Ok(true) }
    }

    /// How many bytes have gone out since this was last asked, of which as many were written meanwhile: TLS takes many at once, and
    /// holds them while the client takes few.
    pub(crate) fn count_gone(&self, written: u64) -> u64 {
        if self.peer.is_tls { self.stream.take_sent_count() } else { written }
    }

    /// Whether TLS holds records that are to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.peer.is_tls && self.stream.has_unsent()
    }

    /// Sends what of TLS goes at once, and drops the rest: what follows is the end of the socket, without TLS's farewell.
    pub(crate) fn drop_unsent(&self) {
        if self.peer.is_tls {
            let _ = self.stream.flush();
            self.stream.stop_tls();
        }
    }

    /// Reads what has come without waiting, of any connection.
    pub(crate) fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.peer.is_tls {
            return self.socket().read(buffer);
        }
        // TLS may have something to send before more can come.
        self.stream.flush()?;
        self.stream.read(buffer)
    }

    /// Whether another read may find bytes or the client's end, of which no event may tell.
    pub(crate) fn may_read_on(&self) -> bool {
        if self.peer.is_tls { self.stream.may_read_on() } else { !self.is_silent() }
    }

    /// Half-closes the connection in order. What TLS still holds is sent before, by [`Client::flush`].
    pub(crate) fn end_writing(&self) {
        self.stream.end_writing();
    }

    /// What it uses its place for, its handshake included.
    pub(crate) fn activity_in(&self, http1: &Http1) -> Activity {
        match http1.activity() {
            Activity::Idle { since } if self.peer.is_tls && self.stream.is_handshaking() => {
                Activity::Handshaking { since, has_hello: self.stream.has_hello() }
            }
            activity => activity,
        }
    }

    /// The subject of the client's certificate, where backends are told that. One that can't be told is empty, not what the client
    /// itself says.
    pub(crate) fn subject(&self) -> Option<String> {
        let is_told = self.context.tls.as_ref().is_some_and(|tls| tls.tells_subject());
        is_told.then(|| self.stream.peer_subject().unwrap_or_default())
    }

    pub(super) fn read_decrypted_into(&self, http1: &mut Http1) -> Received {
        if self.awaits_hello.load(Ordering::Relaxed) {
            match self.peek_at_hello() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
                Err(_) | Ok(None) => return Received::End,
                Ok(Some(byte)) => {
                    self.awaits_hello.store(false, Ordering::Relaxed);
                    // The first record of a handshake begins with 0x16, plain HTTP by a method or an empty line, as the PROXY protocol does.
                    if byte.is_ascii_alphabetic() || matches!(byte, b'\r' | b'\n') {
                        return self.read_plain_http(http1);
                    }
                }
            }
        }
        let mut buffer = [0; READ_BYTES];
        let was_handshaking = self.stream.is_handshaking();
        let read = self.read_some(&mut buffer);
        if was_handshaking && !self.stream.is_handshaking() {
            // The client has just been heard of, however far away it is.
            http1.restart_idling(Instant::now());
        }
        match read {
            Ok(0) => Received::End,
            Ok(count) => {
                http1.receive(&buffer[..count]);
                // As with a plain socket that has been emptied: what comes later makes an event.
                let more = self.stream.may_read_on() || self.state.lock().status != ClientStatus::Connected;
                Received::Bytes { more }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Received::Nothing,
                io::ErrorKind::Interrupted => Received::Bytes { more: true },
                io::ErrorKind::InvalidData => {
                    access_log::tls_failed(&self.peer, &client_failure::sentence(&error));
                    if let Some(replies) = &self.frontend().limits.replies {
                        replies.count_tls_failure(client_failure::is_of_our_certificate(&error));
                    }
                    // The client is told why.
                    let _ = self.stream.flush();
                    if !(was_handshaking && self.stream.has_hello()) {
                        return Received::End;
                    }
                    // Behind its certificate it may have sent a request: to close before that is read would reset what it is told.
                    self.stream.stop_tls();
                    self.half_close(http1);
                    Received::Bytes { more: true }
                }
                _ => Received::End,
            },
        }
    }

    fn peek_at_hello(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        Ok((self.peek(&mut first)? > 0).then_some(first[0]))
    }

    fn read_plain_http(&self, http1: &mut Http1) -> Received {
        self.stream.stop_tls();
        let mut buffer = [0; READ_BYTES];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        http1.receive(&buffer[..count]);
        Received::PlainHttp
    }
}
