//! Backends that speak TLS, on rustls, and authorities that sign their certificates. They say whom a client asked for,
//! what it offered, and whether it resumed a session.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::backend::whole_request;
use super::{Connection, Raw, SOON};

/// Signs certificates; no program trusts it unless told to.
pub struct Authority {
    pub name: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, and both in PEM.
pub struct Identity(Arc<CertifiedKey>, String);

impl Authority {
    /// One with a name of its own.
    pub fn new() -> Authority {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Authority::named(&format!("Authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { name: name.to_owned(), issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's key: what doesn't belong into a file of certificates.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// An identity with these names or IP addresses.
    pub fn identity(&self, names: &[&str]) -> Identity {
        self.sign(&params(names))
    }

    /// The same, but the certificate is valid for so long from now on.
    pub fn identity_for(&self, time: std::time::Duration, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_after = (std::time::SystemTime::now() + time).into();
        self.sign(&params)
    }

    /// The same, but the certificate is no longer valid.
    pub fn expired_identity(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    /// The same, but the certificate's time hasn't come yet.
    pub fn future_identity(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.not_before = date_time_ymd(3001, 1, 1);
        params.not_after = date_time_ymd(3002, 1, 1);
        self.sign(&params)
    }

    /// The same, but the certificate is for clients only.
    pub fn clients_identity(&self, names: &[&str]) -> Identity {
        let mut params = params(names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A server that shows an authority's certificate, as `openssl req -x509` makes it, which signs itself; and that in DER.
    pub fn serving_identity(names: &[&str]) -> (Identity, Vec<u8>) {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        (Identity::new(&certificate, &key), certificate.der().to_vec())
    }

    /// An identity without any authority, and the certificate in DER.
    pub fn self_signed_identity(names: &[&str]) -> (Identity, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(names).self_signed(&key).expect("a certificate");
        (Identity::new(&certificate, &key), certificate.der().to_vec())
    }

    /// A client's certificate with its key, as a file holds them; perhaps one that is no longer valid.
    pub fn client_pem(&self, is_expired: bool) -> String {
        let mut params = params(&["client.example"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if is_expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        certificate.pem() + &key.serialize_pem()
    }

    /// An identity with these names, and a key of this kind.
    pub fn identity_by(&self, algorithm: &'static SignatureAlgorithm, names: &[&str]) -> Identity {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = params(names).signed_by(&key, &self.issuer).expect("a certificate");
        Identity::new(&certificate, &key)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity::new(&certificate, &key)
    }
}

impl Identity {
    fn new(certificate: &Certificate, key: &KeyPair) -> Identity {
        let pem = certificate.pem() + &key.serialize_pem();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let chain = vec![certificate.der().clone()];
        Identity(Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider()).expect("a pair")), pem)
    }

    /// The certificate and the key, as a file for a server holds them.
    pub fn pem(&self) -> &str {
        &self.1
    }

    /// The certificate and the key for a client of rustls.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.0.clone()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

/// What a client's first word says.
#[derive(Debug, PartialEq, Eq)]
pub struct Hello {
    /// The name it asks for (SNI).
    pub name: Option<String>,
    /// The protocols it offers (ALPN).
    pub protocols: Vec<String>,
}

/// A backend on rustls.
pub struct TlsBackend {
    /// The connections below TLS.
    pub raw: Raw,
    pub port: u16,
    pub hellos: Receiver<Hello>,
    /// For each handshake that has succeeded, whether it resumed a session.
    pub resumed: Receiver<bool>,
    /// All bytes of each request that arrives whole.
    pub requests: Receiver<Vec<u8>>,
}

/// One connection of a [`TlsBackend`], after its handshake.
pub struct Secured {
    pub connection: Connection,
    tls: ServerConnection,
    buffer: Vec<u8>,
    requests: Sender<Vec<u8>>,
}

/// How a backend speaks TLS.
pub struct Manner {
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Clients need a certificate of this authority.
    pub clients_of: Option<Vec<u8>>,
    /// It says farewell in one breath with the last of its handshake; the connection itself stays open.
    pub leaves_at_once: bool,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { versions: rustls::ALL_VERSIONS, clients_of: None, leaves_at_once: false }
    }
}

impl TlsBackend {
    /// Serves every connection by the function, on a thread of its own.
    pub fn serving(identity: Identity, serve: impl Fn(Secured) + Send + Sync + 'static) -> TlsBackend {
        TlsBackend::in_manner(Manner::default(), identity, serve)
    }

    /// Answers every request on every connection with 200 and this text.
    pub fn with(identity: Identity, text: &'static str) -> TlsBackend {
        TlsBackend::serving(identity, move |mut secured| secured.reply_to_all(text))
    }

    /// The same on an address of the test's choice.
    pub fn on(address: &str, identity: Identity, serve: impl Fn(Secured) + Send + Sync + 'static) -> TlsBackend {
        TlsBackend::over(TcpListener::bind(address).expect("a port"), identity, serve)
    }

    /// The same on a listener of the test's choice.
    pub fn over(
        listener: TcpListener,
        identity: Identity,
        serve: impl Fn(Secured) + Send + Sync + 'static,
    ) -> TlsBackend {
        TlsBackend::listening(listener, Manner::default(), identity, serve)
    }

    pub fn in_manner(
        manner: Manner,
        identity: Identity,
        serve: impl Fn(Secured) + Send + Sync + 'static,
    ) -> TlsBackend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        TlsBackend::listening(listener, manner, identity, serve)
    }

    fn listening(
        listener: TcpListener,
        manner: Manner,
        identity: Identity,
        serve: impl Fn(Secured) + Send + Sync + 'static,
    ) -> TlsBackend {
        let (hello_sender, hellos) = unbounded();
        let (resumed_sender, resumed) = unbounded();
        let (sender, requests) = unbounded();
        let leaves_at_once = manner.leaves_at_once;
        let config = config(manner, Noting { key: identity.0, hellos: hello_sender });
        let raw = Raw::on(listener, move |mut connection| {
            let mut tls = ServerConnection::new(config.clone()).expect("a good configuration");
            if shake(&mut tls, &mut connection.stream, leaves_at_once).is_err() {
                // The client must be able to read why.
                return connection.wait_for_hang_up();
            }
            let _ = resumed_sender.send(tls.handshake_kind() == Some(HandshakeKind::Resumed));
            serve(Secured { connection, tls, buffer: Vec::new(), requests: sender.clone() });
        });
        TlsBackend { port: raw.address.port(), raw, hellos, resumed, requests }
    }

    /// Its URL under a name or an IP address.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// What the next client says first.
    pub fn hello(&self) -> Hello {
        self.hellos.recv_timeout(SOON).expect("a handshake")
    }

    /// The next request that arrives whole, on whichever connection.
    pub fn next(&self) -> Vec<u8> {
        self.requests.recv_timeout(SOON).expect("a request at the backend")
    }
}

fn shake(tls: &mut ServerConnection, stream: &mut TcpStream, leaves_at_once: bool) -> io::Result<()> {
    while tls.is_handshaking() {
        if tls.read_tls(stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let processed = tls.process_new_packets();
        if leaves_at_once && !tls.is_handshaking() {
            tls.send_close_notify();
        }
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes)?;
        }
        stream.write_all(&bytes)?;
        processed.map_err(io::Error::other)?;
    }
    Ok(())
}

fn config(manner: Manner, noting: Noting) -> Arc<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(manner.versions);
    let builder = builder.expect("ring speaks these versions");
    let builder = match manner.clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.into()).expect("a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a root"))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(noting));
    // It would rather speak HTTP/2, so a client that offers it would get it.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

impl Secured {
    /// Which connection of its backend it is, from 0.
    pub fn number(&self) -> usize {
        self.connection.number
    }

    /// Reads the head of a request: its bytes, or `None` if the connection ends. What follows is left unread.
    pub fn head(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        Some(head)
    }

    /// Reads exactly this many bytes, whatever they mean.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        rustls::Stream::new(&mut self.tls, &mut self.connection.stream).read_exact(bytes)
    }

    /// Reads one request with its Content-Length body: all its bytes, or `None` if the connection ends.
    pub fn request(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = whole_request(&self.buffer) {
                let request: Vec<u8> = self.buffer.drain(..length).collect();
                let _ = self.requests.send(request.clone());
                return Some(request);
            }
            let mut bytes = [0; 16 * 1024];
            match rustls::Stream::new(&mut self.tls, &mut self.connection.stream).read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Sends bytes; a proxy that has hung up is no failure here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    /// Sends bytes, unless the proxy has hung up.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        rustls::Stream::new(&mut self.tls, &mut self.connection.stream).write_all(bytes.as_ref())
    }

    /// Sends a few short pieces in one write, each in a record of its own, and perhaps the farewell behind them.
    pub fn send_at_once(&mut self, pieces: &[&[u8]], with_farewell: bool) {
        for piece in pieces {
            self.tls.writer().write_all(piece).expect("room in the buffer");
        }
        if with_farewell {
            self.tls.send_close_notify();
        }
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("a vector takes all");
        }
        let _ = self.connection.stream.write_all(&bytes);
    }

    /// Reads until the connection ends: what came, and whether its end was told.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = std::mem::take(&mut self.buffer);
        let end = rustls::Stream::new(&mut self.tls, &mut self.connection.stream).read_to_end(&mut bytes);
        (bytes, end.is_ok())
    }

    /// Answers every request with 200 and this text.
    pub fn reply_to_all(&mut self, text: &str) {
        while self.request().is_some() {
            self.reply(text);
        }
    }

    /// Sends a reply with a Content-Length.
    pub fn reply(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat());
    }
}

/// Has one certificate for every client, and notes the names that they ask for.
#[derive(Debug)]
struct Noting {
    key: Arc<CertifiedKey>,
    hellos: Sender<Hello>,
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let protocols = hello.alpn().map(|offered| offered.map(|name| String::from_utf8_lossy(name).into_owned()));
        let protocols = protocols.map_or_else(Vec::new, Iterator::collect);
        let _ = self.hellos.send(Hello { name: hello.server_name().map(str::to_owned), protocols });
        Some(self.key.clone())
    }
}
