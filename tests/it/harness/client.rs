//! A client that shows every byte: sends what it is told, reads one reply at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::SOON;

/// A connection to the proxy.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// One reply, its body unframed.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body came to its end as its framing says.
    pub whole: bool,
}

impl Reply {
    /// All values of a field, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own.
pub fn reply_to(address: SocketAddr, method: &str, target: &str, fields: &[&str], body: Option<&[u8]>) -> Reply {
    let mut client = Client::connect(address);
    client.send_request(method, target, fields, body);
    client.reply()
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Reply {
    reply_to(address, "GET", target, &[], None)
}

impl Client {
    /// One GET, or `None` if the connection ends without a reply.
    pub fn connect_and_get(address: SocketAddr) -> Option<Reply> {
        let mut client = Client::connect(address);
        client.send_request("GET", "/", &[], None);
        let mut reply = client.head()?;
        client.read_body(&mut reply);
        Some(reply)
    }

    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, SOON).expect("the proxy accepts"))
    }

    /// The same with so little room for what isn't read that the proxy soon has to wait.
    pub fn cramped(address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        socket.connect_timeout(&address.into(), SOON).expect("the proxy accepts");
        Client::over(socket.into())
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.set_write_timeout(Some(SOON)).expect("a timeout");
        Client { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the proxy reads");
    }

    /// HTTP/1.1 with `Host: localhost`, and a Content-Length if there is a body.
    pub fn send_request(&mut self, method: &str, target: &str, fields: &[&str], body: Option<&[u8]>) {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        for field in fields {
            bytes.extend_from_slice(format!("{field}\r\n").as_bytes());
        }
        if let Some(body) = body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.unwrap_or_default());
        self.send(bytes);
    }

    /// Reads one reply to a request that wasn't HEAD.
    pub fn reply(&mut self) -> Reply {
        let mut reply = self.head().expect("a reply");
        self.read_body(&mut reply);
        reply
    }

    /// Reads one reply without a body, whatever its head promises.
    pub fn reply_to_head(&mut self) -> Reply {
        self.head().expect("a reply")
    }

    /// Reads the head of a reply; `None` if the connection ends before one byte of it.
    pub fn head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill() == 0 {
                assert!(self.buffer.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        // As Latin-1, so that every byte can be seen.
        let head: String = self.buffer.drain(..end).map(char::from).collect();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Some(Reply { status, head, body: Vec::new(), whole: true })
    }

    /// Reads the body behind a head.
    pub fn read_body(&mut self, reply: &mut Reply) {
        if matches!(reply.status, 204 | 304 | 100..=199) {
            return;
        }
        if reply.value("transfer-encoding") == Some("chunked") {
            return self.read_chunks(reply);
        }
        if let Some(length) = reply.value("content-length").map(|length| length.parse().expect("a length")) {
            while self.buffer.len() < length && self.fill() > 0 {}
            reply.whole = self.buffer.len() >= length;
            reply.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
            return;
        }
        reply.whole = loop {
            match self.try_fill() {
                Ok(0) => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        reply.body = std::mem::take(&mut self.buffer);
    }

    fn read_chunks(&mut self, reply: &mut Reply) {
        while let Some(chunk) = self.chunk() {
            if chunk.is_empty() {
                return;
            }
            reply.body.extend_from_slice(&chunk);
        }
        reply.whole = false;
    }

    /// The next chunk of a chunked body; an empty one is the last; `None` if the connection ends before.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(newline) = find(&self.buffer, b"\r\n") {
                let size = std::str::from_utf8(&self.buffer[..newline]).expect("a chunk's size");
                let size = usize::from_str_radix(size, 16).expect("a chunk's size");
                let (begin, end) = (newline + 2, newline + 2 + size);
                if self.buffer.len() >= end + 2 {
                    assert_eq!(&self.buffer[end..end + 2], b"\r\n");
                    let chunk = self.buffer[begin..end].to_vec();
                    self.buffer.drain(..end + 2);
                    return Some(chunk);
                }
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Reads exactly this many bytes, whatever they mean.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill() > 0 {}
        assert!(self.buffer.len() >= length, "the connection ends too early");
        self.buffer.drain(..length).collect()
    }

    /// Takes at most this many bytes off the kernel's hands, for a reply that is read later: how many.
    pub fn take(&mut self, most: usize) -> std::io::Result<usize> {
        let mut bytes = vec![0; most];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Whether the proxy has closed the connection and sent nothing before it.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an open connection");
    }

    /// No more requests from this side.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Reads what comes next; 0 if the connection has ended, in order or not.
    fn fill(&mut self) -> usize {
        self.try_fill().unwrap_or(0)
    }

    fn try_fill(&mut self) -> std::io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes).inspect_err(|error| {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "the proxy says nothing for too long");
        })?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
