//! Backends that speak plainly or TLS, for tests in which that must make no difference.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};

use red_tentacle::config::Config;
use tempfile::NamedTempFile;

use super::{Authority, Binary, Connection, Framing, Proxy, Raw, Secured, TlsBackend, cramped_listener, patiently};

/// A backend's side of a connection.
pub enum Far {
    Plain(Connection),
    Tls(Box<Secured>),
}

impl Far {
    /// Reads one request with its Content-Length body: all its bytes, or `None` if the connection ends.
    pub fn request(&mut self) -> Option<Vec<u8>> {
        match self {
            Far::Plain(connection) => connection.request(),
            Far::Tls(secured) => secured.request(),
        }
    }

    /// Reads the head of a request: its bytes, or `None` if the connection ends. What follows is left unread.
    pub fn head(&mut self) -> Option<Vec<u8>> {
        match self {
            Far::Plain(connection) => connection.head(),
            Far::Tls(secured) => secured.head(),
        }
    }

    /// Reads exactly this many bytes, whatever they mean.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Far::Plain(connection) => connection.stream.read_exact(bytes),
            Far::Tls(secured) => secured.read_exact(bytes),
        }
    }

    /// Sends bytes; a proxy that has hung up is no failure here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    /// Sends bytes, unless the proxy has hung up.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match self {
            Far::Plain(connection) => connection.stream.write_all(bytes.as_ref()),
            Far::Tls(secured) => secured.try_send(bytes),
        }
    }

    /// Ends a body: with the connection, if nothing else tells its end.
    pub fn finish(mut self, framing: Framing) -> Option<Far> {
        self.send(framing.last());
        if framing == Framing::UntilClose {
            self.close();
            return None;
        }
        Some(self)
    }

    /// Ends in order, under TLS with its farewell.
    pub fn close(mut self) {
        self.say_farewell();
        self.cut();
    }

    /// Says TLS's farewell, if it is TLS.
    pub fn say_farewell(&mut self) {
        if let Far::Tls(secured) = self {
            secured.send_at_once(&[], true);
        }
    }

    /// Ends the connection in TCP's order only. Bytes of the proxy's that would make it a reset are waited for.
    pub fn cut(self) {
        let mut connection = self.into_connection();
        let _ = connection.stream.shutdown(Shutdown::Write);
        connection.wait_for_hang_up();
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.into_connection().reset();
    }

    /// Waits until the proxy hangs up, and tells it.
    pub fn wait_for_hang_up(self) {
        self.into_connection().wait_for_hang_up();
    }

    /// What comes, and whether its end is told in order.
    pub fn rest(self) -> (Vec<u8>, bool) {
        match self {
            Far::Plain(mut connection) => {
                let mut bytes = Vec::new();
                let end = connection.stream.read_to_end(&mut bytes);
                (bytes, end.is_ok())
            }
            Far::Tls(mut secured) => secured.rest(),
        }
    }

    /// The connection below TLS, or the plain one.
    pub fn into_connection(self) -> Connection {
        match self {
            Far::Plain(connection) => connection,
            Far::Tls(secured) => secured.connection,
        }
    }
}

/// A backend that speaks one of the two.
pub struct Backend {
    pub url: String,
    pub authority: Authority,
    /// The connections, below TLS.
    pub raw: Raw,
    ca_file: NamedTempFile,
}

impl Backend {
    /// Serves every connection by the function, on a thread of its own.
    pub fn serving(is_tls: bool, serve: impl Fn(Far) + Send + Sync + 'static) -> Backend {
        Backend::on(TcpListener::bind("127.0.0.1:0").expect("a port"), is_tls, serve)
    }

    /// Listens with so little room for what isn't read that a sender of a megabyte has to wait.
    pub fn cramped(is_tls: bool, serve: impl Fn(Far) + Send + Sync + 'static) -> Backend {
        Backend::on(cramped_listener(), is_tls, serve)
    }

    fn on(listener: TcpListener, is_tls: bool, serve: impl Fn(Far) + Send + Sync + 'static) -> Backend {
        let authority = Authority::new();
        let ca_file = NamedTempFile::new().expect("a file");
        std::fs::write(ca_file.path(), authority.pem()).expect("room");
        if is_tls {
            let identity = authority.identity(&["127.0.0.1"]);
            let backend = TlsBackend::over(listener, identity, move |secured| serve(Far::Tls(Box::new(secured))));
            return Backend { url: backend.url("127.0.0.1"), authority, raw: backend.raw, ca_file };
        }
        let raw = Raw::on(listener, move |connection| serve(Far::Plain(connection)));
        Backend { url: raw.url.clone(), authority, raw, ca_file }
    }

    /// A proxy before it that trusts it, in which nothing ends by itself.
    pub fn proxy(&self, change: impl FnOnce(&mut Config)) -> Proxy {
        Proxy::with(std::slice::from_ref(&self.url), |config| {
            patiently(config);
            config.ca_certificates = vec![self.authority.der()];
            change(config);
        })
    }

    /// The program before it, which trusts it.
    pub fn program(&self, arguments: &[&str]) -> Binary {
        let ca_file = self.ca_file.path().to_str().expect("UTF-8");
        Binary::start(&[&["--backends", &self.url, "--ca-file", ca_file], arguments].concat())
    }
}

/// Plain and TLS, each with every framing.
pub fn ways() -> impl Iterator<Item = (bool, Framing)> {
    [false, true].into_iter().flat_map(|is_tls| Framing::ALL.map(|framing| (is_tls, framing)))
}
