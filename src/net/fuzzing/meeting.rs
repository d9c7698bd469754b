//! A client and the proxy, between whom a script has its hand in the records.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::Socket;

use super::super::byte_stream::{ByteStream, End, READ_BYTES};
use super::super::records::{HANDSHAKE_BYTES_MAX, PEEK_BYTES};
use super::super::server_tls::ServerTls;
use super::way::{Seen, Way};
use super::wire::{BODY_BYTES_MAX, Wire};

/// The most rounds after a script: it has fewer records under way, and each round moves one at least.
const ROUNDS_MAX: usize = 1000;
/// The most records on their way to which a script may add more.
const WIRE_RECORDS_MAX: usize = 64;
/// The most renewals of keys: the library takes more than twice as many for an attack.
const KEY_RENEWALS_MAX: usize = 12;
/// What clients and the proxy say at a time.
const SIZES: [usize; 8] = [1, 2, 5, 100, 4096, 16 * 1024, 17_000, 40_000];

/// A client and the proxy, on both ends of a socket, and on one thread.
pub(super) struct Meeting<'a> {
    config: &'a Arc<ClientConfig>,
    is_tls13: bool,
    /// Made when it is first needed: many scripts are other bytes from the start.
    client: Option<ClientConnection>,
    near: UnixStream,
    stream: ByteStream,
    /// The client's records that haven't come yet, in order.
    wire: Wire,
    delivered: usize,
    /// Something was done to the records that a client, or the way to it, never does.
    is_disturbed: bool,
    /// How much of what the client said had come before that.
    sound: usize,
    has_fin: bool,
    up: Way,
    down: Way,
    interruptions: usize,
    key_renewals: usize,
}

impl Meeting<'_> {
    pub(super) fn new<'a>(server: &ServerTls, config: &'a Arc<ClientConfig>, is_tls13: bool) -> Meeting<'a> {
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        for socket in [&near, &far] {
            socket.set_nonblocking(true).expect("a socket");
        }
        let far = Socket::from(OwnedFd::from(far));
        // So that it is full now and then.
        far.set_send_buffer_size(4096).expect("a socket");
        let stream = ByteStream::new(far);
        stream.start_tls(server.connection().expect("a connection"));
        Meeting {
            config,
            is_tls13,
            client: None,
            near,
            stream,
            wire: Wire::default(),
            delivered: 0,
            is_disturbed: false,
            sound: 0,
            has_fin: false,
            up: Way::default(),
            down: Way::default(),
            interruptions: 0,
            key_renewals: 0,
        }
    }

    /// Has the two agree, without any disturbance.
    pub(super) fn shake_hands(&mut self) {
        self.client();
        self.collect();
        self.settle();
        assert!(!self.stream.is_handshaking(), "they agree");
    }

    /// Takes one step. More of the script may belong to it.
    pub(super) fn step(&mut self, step: u8, number: usize, script: &mut impl Iterator<Item = u8>) {
        match step {
            0 => self.say(SIZES[number & 7]),
            1 => self.deliver(number + 1),
            2 => self.deliver(SIZES[number & 7]),
            3 => drop(self.read([1, 16, 1000, READ_BYTES][number & 3])),
            4 => self.peek(number),
            5 => self.reply(SIZES[number & 7]),
            6 => self.hear_replies(),
            7 => self.read_all(),
            8 => self.end_reply(),
            9 => self.say_last(),
            10 => self.renew_keys(),
            11 => self.part_hello(number),
            12 => self.finish(),
            13 => self.disturb(|wire| wire.push_front(script.take(number + 1).collect())),
            14 => self.disturb(|wire| wire.flood(number, script.next().unwrap_or(0))),
            _ => self.disturb(|wire| wire.disturb(number, script.next().unwrap_or(0))),
        }
    }

    fn client(&mut self) -> &mut ClientConnection {
        if self.client.is_none() {
            let name = ServerName::try_from("localhost").expect("a name");
            self.client = Some(ClientConnection::new(self.config.clone(), name).expect("a client"));
        }
        self.client.as_mut().expect("it was made")
    }

    /// Whether the client may go on.
    fn may_say(&mut self) -> bool {
        !self.has_fin && !self.up.is_closed && self.down.end != Some(Seen::Failure)
    }

    fn say(&mut self, count: usize) {
        if self.may_say() {
            let bytes = self.up.say(count);
            self.up.said += self.client().writer().write(&bytes).expect("a buffer");
            self.collect();
        }
    }

    fn say_last(&mut self) {
        if self.may_say() && !self.client().is_handshaking() {
            self.client().send_close_notify();
            self.up.is_closed = true;
            self.collect();
        }
    }

    fn renew_keys(&mut self) {
        if self.may_say() && self.is_tls13 && self.key_renewals < KEY_RENEWALS_MAX && !self.client().is_handshaking() {
            self.key_renewals += 1;
            self.client().refresh_traffic_keys().expect("TLS 1.3 renews keys");
            self.collect();
        }
    }

    /// Puts what the client has to send on its way, record by record.
    fn collect(&mut self) {
        let mut bytes = Vec::new();
        let Some(client) = &mut self.client else { return };
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        self.wire.push_records(&bytes);
    }

    /// Has some bytes come, as far as there is room for them.
    fn deliver(&mut self, mut count: usize) {
        if self.has_fin {
            return;
        }
        while let Some(record) = self.wire.front_mut().filter(|_| count > 0) {
            let written = match self.near.write(&record[..count.min(record.len())]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                written => written.expect("the other end is open"),
            };
            record.drain(..written);
            (count, self.delivered) = (count - written, self.delivered + written);
            if record.is_empty() {
                self.wire.pop_front();
            }
        }
    }

    /// Nothing more comes, and of the client's last word only what has come.
    fn finish(&mut self) {
        self.deliver(usize::MAX);
        if !self.has_fin {
            let is_early = self.client.as_ref().is_none_or(|client| client.is_handshaking());
            self.is_disturbed |= is_early || !self.wire.is_empty();
            self.near.shutdown(Shutdown::Write).expect("a socket");
            self.has_fin = true;
        }
    }

    /// Cuts the client's hello into several records, as it may be.
    fn part_hello(&mut self, number: usize) {
        self.client();
        self.collect();
        if !self.is_disturbed && self.delivered == 0 {
            self.wire.part_only(number * number + 1);
        }
    }

    /// Has a hand in the client's records, if they may be disturbed.
    fn disturb(&mut self, disturb: impl FnOnce(&mut Wire)) {
        if !self.down.is_closed && self.wire.len() <= WIRE_RECORDS_MAX {
            let may_be_read = self.wire.is_empty() && !self.stream.is_handshaking();
            if !self.is_disturbed && may_be_read {
                self.sound = self.up.said;
            }
            self.is_disturbed = true;
            disturb(&mut self.wire);
        }
    }

    /// Reads as a client's thread does. Returns the count of bytes, or `None` if there is nothing more for now.
    fn read(&mut self, size: usize) -> Option<usize> {
        let may_read_on = self.stream.may_read_on();
        let mut buffer = [0; READ_BYTES];
        let read = self.stream.flush().and_then(|_| self.stream.read(&mut buffer[..size]));
        let is_nothing = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        // Of the socket's own end an event tells.
        assert!(may_read_on || is_nothing || self.has_fin, "there was more to read: {read:?}");
        match read {
            Ok(0) => self.note_end(Seen::InOrder, 0),
            Ok(count) => {
                self.up.hear(&buffer[..count]);
                return Some(count);
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => assert_eq!(self.up.end, None, "an end stays"),
                ErrorKind::Interrupted => {
                    self.interruptions += 1;
                    return Some(0);
                }
                _ => self.note_end(Seen::Failure, 0),
            },
        }
        None
    }

    fn read_all(&mut self) {
        let (told, before) = (self.stream.unread_bytes(), self.up.heard);
        while self.read(READ_BYTES).is_some() {}
        if let Some(told) = told {
            assert_eq!((self.up.heard - before) as u64, told, "as many as were told");
        }
    }

    /// Looks at what has come, and takes a part of it.
    fn peek(&mut self, part: usize) {
        let (count, end) = self.stream.peek(|peeked| {
            if self.up.end.is_none() {
                self.up.check_prefix(peeked.bytes);
            }
            (peeked.bytes.len(), peeked.end.map(|end| matches!(end, End::Closed)))
        });
        if let Some(is_in_order) = end {
            self.note_end(if is_in_order { Seen::InOrder } else { Seen::Failure }, count);
        }
        let taken = count * part / 15;
        self.stream.consume(taken);
        self.up.heard += taken;
    }

    /// Notes how the client's side has ended, this many bytes from here: in order only where it has said so, and all is there.
    fn note_end(&mut self, end: Seen, unread: usize) {
        let count = self.up.heard + unread;
        let is_whole = self.up.is_closed && count == self.up.said;
        // Before anything is agreed on, a hand on the way may say that there is nothing.
        let is_nothing = self.stream.is_handshaking() && count == 0;
        assert!(end == Seen::Failure || is_whole || is_nothing, "half of it looks whole");
        if unread == 0 {
            self.up.note_end(end);
        }
    }

    fn reply(&mut self, count: usize) {
        if self.stream.is_handshaking() || self.down.is_closed {
            return;
        }
        let bytes = self.down.say(count);
        match self.stream.write(&bytes) {
            Ok(count) => self.down.said += count,
            Err(error) => assert!(self.is_disturbed, "{error}"),
        }
    }

    /// Ends the reply, unless records are disturbed: the library's debug builds take an alert behind `close_notify` for a bug.
    fn end_reply(&mut self) {
        if !self.stream.is_handshaking() && !self.is_disturbed {
            self.stream.end_writing();
            self.down.is_closed = true;
        }
    }

    /// Has the client read what has come, and answer.
    fn hear_replies(&mut self) {
        let mut buffer = [0; BODY_BYTES_MAX];
        let Some(client) = &mut self.client else { return };
        while self.down.end.is_none() {
            let read = match client.read_tls(&mut self.near) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                read => read,
            };
            let processed = client.process_new_packets();
            loop {
                match client.reader().read(&mut buffer) {
                    Ok(0) => {
                        assert!(self.down.is_closed && self.down.heard == self.down.said, "half a reply looks whole");
                        self.down.note_end(Seen::InOrder);
                    }
                    Ok(count) => {
                        self.down.hear(&buffer[..count]);
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock && read.is_ok() => {}
                    Err(_) => self.down.note_end(Seen::Failure),
                }
                break;
            }
            if processed.is_err() {
                self.down.end = Some(Seen::Failure);
            }
        }
        self.collect();
    }

    /// Lets all come that is under way.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = (self.delivered, self.up.heard, self.down.heard, self.wire.len());
            self.read_all();
            let is_sent = self.stream.flush().expect("the other end is open");
            self.hear_replies();
            self.deliver(usize::MAX);
            if is_sent && before == (self.delivered, self.up.heard, self.down.heard, self.wire.len()) {
                return;
            }
        }
        panic!("it takes no end");
    }

    /// Checks what holds at any time.
    pub(super) fn check_bounds(&self) {
        assert!(self.stream.with_peeked(<[u8]>::len) < PEEK_BYTES + BODY_BYTES_MAX, "what is buffered has a bound");
        if self.stream.is_handshaking() && self.up.end.is_none() {
            let in_socket = rustix::io::ioctl_fionread(self.stream.socket()).expect("a socket");
            let taken = self.delivered as u64 - in_socket;
            assert!(taken < (HANDSHAKE_BYTES_MAX + 4096) as u64, "what a handshake takes has a bound: {taken}");
        }
        assert!(self.interruptions <= self.delivered, "a thread comes back only for more bytes");
    }

    /// Checks that nothing is missing of what came before it was disturbed, if it was.
    pub(super) fn check_end(&mut self) {
        assert!(self.up.heard >= self.sound, "what came before a failure is read before it");
        let Some(client) = self.client.as_ref().filter(|_| !self.is_disturbed) else { return };
        assert!(!client.is_handshaking(), "they agree");
        assert_eq!(self.up.heard, self.up.said, "all of what the client said");
        assert_eq!(self.down.heard, self.down.said, "all of the reply");
        let end = match (self.up.is_closed, self.has_fin) {
            (true, _) => Some(Seen::InOrder),
            (false, true) => Some(Seen::Failure),
            (false, false) => None,
        };
        assert_eq!((self.up.end, self.down.end), (end, self.down.is_closed.then_some(Seen::InOrder)));
    }
}
