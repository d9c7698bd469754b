//! A port that drops whoever connects, until it is told to answer.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::SOON;

/// Listens with a full backlog: who connects gets no word.
pub struct Silent {
    pub address: SocketAddr,
    socket: Socket,
    waiting: Vec<TcpStream>,
}

impl Silent {
    pub fn new() -> Silent {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(0).expect("listening");
        let address = socket.local_addr().expect("an address").as_socket().expect("IPv4");
        let fill = |_| TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
        let waiting: Vec<TcpStream> = (0..4).map_while(fill).collect();
        assert!(waiting.len() < 4, "the backlog is never full");
        Silent { address, socket, waiting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on every connection is answered with these bytes at once.
    pub fn answer(self, bytes: &'static [u8]) {
        let Silent { socket, waiting, .. } = self;
        socket.listen(16).expect("listening");
        drop(waiting);
        let listener = TcpListener::from(socket);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.set_read_timeout(Some(SOON));
                let _ = std::io::Write::write_all(&mut stream, bytes);
                thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
    }
}
