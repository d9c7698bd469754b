//! Clients of HTTPS: a connection that speaks TLS where the test speaks plainly, so that a test of plain clients is one of these, too.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::thread;

use red_tentacle::config::{Config, Listen};
use red_tentacle::net::server_tls::{CertificateFiles, TlsFiles};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use socket2::SockRef;
use tempfile::TempDir;

use super::{Authority, SOON};

/// An authority for all tests, and the file of a certificate of localhost that it has signed.
pub static LOCALHOST: LazyLock<(Authority, CertificateFiles)> = LazyLock::new(|| {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory").keep();
    let file = written(&directory, "localhost.pem", authority.identity(&["localhost"]).pem());
    (authority, CertificateFiles { chain: file.clone(), key: file })
});

thread_local! {
    static OVER_TLS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test whose proxies have their clients come by HTTPS.
pub fn over_tls(test: impl FnOnce()) {
    OVER_TLS.set(true);
    test();
    OVER_TLS.set(false);
}

/// Whether clients of this thread's proxies come by HTTPS.
pub fn is_over_tls() -> bool {
    OVER_TLS.get()
}

/// Has a proxy listen for HTTPS, too, with the certificate of localhost.
pub fn by_https(config: &mut Config) {
    config.tls_listen = vec![Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)))];
    config.tls = TlsFiles { certificates: vec![LOCALHOST.1.clone()], ..TlsFiles::default() };
}

/// Writes a file into a directory.
pub fn written(directory: &std::path::Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("written");
    path
}

/// The same for several certificates, in a directory of the test's own.
pub fn certificates(texts: &[&str]) -> (TempDir, Vec<CertificateFiles>) {
    let directory = tempfile::tempdir().expect("a directory");
    let files = texts.iter().enumerate().map(|(at, text)| {
        let path = written(directory.path(), &format!("{at}.pem"), text);
        CertificateFiles { chain: path.clone(), key: path }
    });
    let files = files.collect();
    (directory, files)
}

fn builder(
    provider: CryptoProvider,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().into()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions);
    builder.expect("ring speaks these versions").with_root_certificates(roots)
}

/// A client that trusts the authority.
pub fn client_of(authority: &Authority) -> ClientConfig {
    builder(ring::default_provider(), authority, rustls::ALL_VERSIONS).with_no_client_auth()
}

/// The same, speaking these versions alone.
pub fn client_with(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    client_by(ring::default_provider(), authority, versions)
}

/// The same, with this cryptography.
pub fn client_by(
    provider: CryptoProvider,
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    builder(provider, authority, versions).with_no_client_auth()
}

/// The same with a certificate of its own.
pub fn client_as(authority: &Authority, key: Arc<CertifiedKey>) -> ClientConfig {
    builder(ring::default_provider(), authority, rustls::ALL_VERSIONS).with_client_cert_resolver(Arc::new(Showing(key)))
}

#[derive(Debug)]
struct Showing(Arc<CertifiedKey>);

impl ResolvesClientCert for Showing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A TLS client that is to connect to this name.
pub fn connection(config: ClientConfig, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a good configuration")
}

/// Listens for plain connections, each of which it carries on by TLS to this address: what one side sends, how it ends (in order
/// or not), and how fast it takes, the other sees.
pub fn wrapped(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for plain in listener.incoming().flatten() {
            thread::spawn(move || {
                let Ok(secured) = TcpStream::connect_timeout(&to, SOON) else {
                    return reset(&plain);
                };
                Carried::new(plain, secured).carry();
            });
        }
    });
    address
}

fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

/// A plain connection and the one under TLS to which it leads.
struct Carried {
    plain: TcpStream,
    secured: TcpStream,
    tls: ClientConnection,
    /// From the proxy, for the plain side.
    down: Vec<u8>,
    has_plain_ended: bool,
    has_tls_ended: bool,
}

impl Carried {
    fn new(plain: TcpStream, secured: TcpStream) -> Carried {
        for stream in [&plain, &secured] {
            stream.set_nonblocking(true).expect("a socket");
            stream.set_nodelay(true).expect("a socket");
        }
        // A client that doesn't read is felt by the proxy soon. With less room than some packets of loopback take, a connection
        // stalls for fractions of a second again and again.
        let _ = SockRef::from(&secured).set_recv_buffer_size(256 * 1024);
        let _ = SockRef::from(&plain).set_send_buffer_size(16 * 1024);
        let tls = connection(client_of(&LOCALHOST.0), "localhost");
        Carried { plain, secured, tls, down: Vec::new(), has_plain_ended: false, has_tls_ended: false }
    }

    fn carry(mut self) {
        while !(self.has_plain_ended && self.has_tls_ended && self.down.is_empty() && !self.tls.wants_write()) {
            if self.step().is_err() {
                reset(&self.plain);
                reset(&self.secured);
                return;
            }
        }
    }

    /// Waits for what can be done, and does it. An error is an end that isn't in order.
    fn step(&mut self) -> io::Result<()> {
        let (mut plain, mut secured) = (PollFlags::empty(), PollFlags::empty());
        plain.set(PollFlags::IN, self.reads_plain());
        plain.set(PollFlags::OUT, !self.down.is_empty());
        secured.set(PollFlags::IN, !self.has_tls_ended && self.down.is_empty());
        secured.set(PollFlags::OUT, self.tls.wants_write());
        let mut polled = [
            PollFd::from_borrowed_fd(self.plain.as_fd(), plain),
            PollFd::from_borrowed_fd(self.secured.as_fd(), secured),
        ];
        poll(&mut polled, None)?;
        let [plain, secured] = [0, 1].map(|at| polled[at].revents());
        if plain.contains(PollFlags::ERR) || secured.contains(PollFlags::ERR) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if plain.intersects(PollFlags::IN | PollFlags::HUP) && self.reads_plain() {
            self.read_plain()?;
        }
        if secured.intersects(PollFlags::IN | PollFlags::HUP) && !self.has_tls_ended && self.down.is_empty() {
            self.read_tls()?;
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.secured) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                written => drop(written?),
            }
        }
        if self.has_plain_ended && !self.tls.wants_write() {
            let _ = self.secured.shutdown(Shutdown::Write);
        }
        self.write_plain()
    }

    /// Whether TLS takes more from the plain side. Before the handshake is over it would hold all of it.
    fn reads_plain(&self) -> bool {
        !self.has_plain_ended && !self.tls.wants_write() && !self.tls.is_handshaking()
    }

    fn read_plain(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.plain.read(&mut bytes) {
            Ok(0) => {
                self.has_plain_ended = true;
                self.tls.send_close_notify();
            }
            Ok(count) => self.tls.writer().write_all(&bytes[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read_tls(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.secured) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            read => drop(read?),
        }
        let processed = self.tls.process_new_packets().map_err(io::Error::other);
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.tls.reader().read(&mut bytes) {
                Ok(0) => {
                    self.has_tls_ended = true;
                    break;
                }
                Ok(count) => self.down.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An end without a farewell: what came is passed on, and then not an end in order.
                Err(error) => {
                    self.plain.set_nonblocking(false)?;
                    let _ = self.plain.write_all(&self.down);
                    return Err(error);
                }
            }
        }
        processed.map(drop)
    }

    fn write_plain(&mut self) -> io::Result<()> {
        if !self.down.is_empty() {
            match self.plain.write(&self.down) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => drop(self.down.drain(..written?)),
            }
        }
        if self.has_tls_ended && self.down.is_empty() {
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}
