//! Answers and tunnels by the hundred that stay open. The test holds both ends itself, so that none of them costs a thread.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};

use crossbeam_channel::{Receiver, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::{BRIEFLY, Client, Connection, Raw, SOON, descriptors};

/// A backend that begins an answer to each request for `/held`, and then gives its connection to the test. It answers `/lose`
/// with 500, and everything else with `ok`.
pub struct Holding {
    pub url: String,
    pub raw: Raw,
    connections: Receiver<Connection>,
}

/// Both ends of an answer that goes on, or of a tunnel.
pub struct Held {
    pub client: Client,
    pub backend: Connection,
}

impl Holding {
    /// Begins each answer that is to stay open with these bytes.
    pub fn beginning(begin: impl Into<Vec<u8>>) -> Holding {
        Holding::on(TcpListener::bind("127.0.0.1:0").expect("a port"), begin)
    }

    /// The same on a listener of the test's choice.
    pub fn on(listener: TcpListener, begin: impl Into<Vec<u8>>) -> Holding {
        let (begin, (sender, connections)) = (begin.into(), unbounded());
        let raw = Raw::on(listener, move |mut connection| {
            while let Some(head) = connection.request_head() {
                let target = head.split(' ').nth(1).unwrap_or_default();
                if target.starts_with("/held") {
                    connection.send(&begin);
                    let _ = sender.send(connection);
                    return;
                }
                if target.starts_with("/lose") {
                    connection.reply(500, "lost");
                } else {
                    connection.reply(200, "ok");
                }
            }
        });
        Holding { url: raw.url.clone(), raw, connections }
    }

    /// The next connection whose answer has begun.
    pub fn next(&self) -> Connection {
        self.connections.recv_timeout(SOON).expect("an answer that has begun")
    }

    /// Answers that have begun, this many: each client has its head, and a status that says so.
    pub fn open(&self, count: usize, connect: impl Fn() -> Client, request: &str, status: u16) -> Vec<Held> {
        let open = |_| {
            let mut client = connect();
            client.send(request);
            let backend = self.next();
            assert_eq!(client.reply_to_head().status, status);
            Held { client, backend }
        };
        (0..count).map(open).collect()
    }
}

/// As many as are wanted, or as many as there are descriptors for: each takes two here and two in the program, and other tests
/// run beside this one.
pub fn many(count: usize) -> usize {
    let room = descriptors() / 8;
    assert!(room >= 100, "raise the limit of open files: ulimit -n");
    count.min(room)
}

/// Writes these bytes to each of the sockets until none takes more: how many each has taken. They keep little of it themselves.
pub fn fill(sockets: &[&TcpStream], bytes: &[u8]) -> Vec<usize> {
    let moment = Timespec::try_from(2 * BRIEFLY).expect("a short time");
    let mut written = vec![0; sockets.len()];
    for socket in sockets {
        SockRef::from(*socket).set_send_buffer_size(16 * 1024).expect("a small buffer");
        socket.set_nonblocking(true).expect("a socket");
    }
    loop {
        let unfinished: Vec<usize> = (0..sockets.len()).filter(|at| written[*at] < bytes.len()).collect();
        let mut polled: Vec<PollFd> = unfinished.iter().map(|at| PollFd::new(sockets[*at], PollFlags::OUT)).collect();
        if poll(&mut polled, Some(&moment)).expect("sockets") == 0 {
            break;
        }
        for (at, polled) in unfinished.iter().zip(&polled) {
            if !polled.revents().is_empty() {
                written[*at] += write_some(sockets[*at], &bytes[written[*at]..]);
            }
        }
    }
    for socket in sockets {
        socket.set_nonblocking(false).expect("a socket");
    }
    written
}

fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> usize {
    match socket.write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => panic!("the proxy has hung up: {error}"),
    }
}
