//! TLS of a backend's connection: a certificate for 127.0.0.1 that is made at the start, and bytes in and out of rustls.
use std::io::{self, ErrorKind, Read, Write};
use std::os::raw::c_int;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

/// What a backend shows, once the authority that vouches for it is in `file`.
pub fn config(file: &str) -> Arc<ServerConfig> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = own.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(file, issuer.pem()).expect("--cert");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    Arc::new(config.expect("a certificate and its key"))
}

pub struct Tls(ServerConnection);

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Tls {
        Tls(ServerConnection::new(config).expect("a connection"))
    }

    /// Takes what the socket gave, appends what it means to `plain`, and answers a handshake.
    pub fn receive(&mut self, fd: c_int, mut wire: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !wire.is_empty() {
            self.0.read_tls(&mut wire)?;
            let state = self.0.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[start..])?;
        }
        self.flush(fd).map(|_| ())
    }

    /// Takes some of the bytes, and sends what the socket takes.
    pub fn send(&mut self, fd: c_int, plain: &[u8]) -> io::Result<usize> {
        let taken = self.0.writer().write(plain)?;
        self.flush(fd)?;
        if taken == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(taken)
        }
    }

    /// Whether all is sent.
    pub fn flush(&mut self, fd: c_int) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(&mut Socket(fd)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

struct Socket(c_int);

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = unsafe { libc::send(self.0, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
