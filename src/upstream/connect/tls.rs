//! TLS towards backends: the roots that are trusted, and the handshake. Knows nothing of what is said after it.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use socket2::Socket;

use crate::list::LocalFiles;
use crate::message::Outcome;
use crate::net::pem;
use crate::net::records::shake_hands;
use crate::upstream::connect::tls_error::{sentence, sentence_of_handshake};

const CLOSED: &str = "the backend closed the connection in the handshake: does it speak TLS on this port?";

/// Speaks TLS with backends; one for all of them, so that sessions are resumed on new connections.
#[derive(Debug)]
pub(crate) struct Tls(Arc<ClientConfig>, Arc<RootCertStore>);

/// A certificate of `--ca-file` that can't be used: its number, from 1, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct BadCertificate {
    /// Its place in the file, from 1.
    pub number: usize,
    /// The reason why it can't be used, behind its name.
    pub reason: String,
}

impl Tls {
    /// Trusts the usual roots and these.
    pub(crate) fn new(own_roots: &[Vec<u8>]) -> Result<Tls, BadCertificate> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for (index, root) in own_roots.iter().enumerate() {
            roots
                .add(CertificateDer::from_slice(root))
                .map_err(|error| BadCertificate { number: index + 1, reason: pem::unreadable(&error) })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Tls::made(provider, Arc::new(roots), &LocalFiles::default()))
    }

    /// Trusts and shows what a backend's own files say, and else trusts what all others are trusted by.
    pub(crate) fn by_files(&self, files: &LocalFiles) -> Tls {
        Tls::made(self.0.crypto_provider().clone(), self.1.clone(), files)
    }

    fn made(provider: Arc<CryptoProvider>, roots: Arc<RootCertStore>, files: &LocalFiles) -> Tls {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let builder = if files.is_insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        } else {
            builder.with_root_certificates(files.roots.clone().unwrap_or_else(|| roots.clone()))
        };
        let mut config = match &files.client {
            Some(client) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client.clone()))),
            None => builder.with_no_client_auth(),
        };
        // No other protocol is spoken here.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Tls(Arc::new(config), roots)
    }

    /// The proxy's side of a connection with the backend of that name, before its handshake.
    pub(crate) fn connection(&self, host: &str) -> Result<Box<Connection>, Outcome> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Outcome::Tls(format!("{host} can't be the name in a certificate")))?;
        let connection = ClientConnection::new(self.0.clone(), name);
        connection.map(|connection| Box::new(connection.into())).map_err(|error| Outcome::Tls(sentence(&error)))
    }
}

/// Takes any certificate; that its holder has the key is checked all the same.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Shakes hands as far as the socket allows without waiting, and gives whether that is done. A failure names the option by which the
/// backend's authorities are given.
pub(crate) fn handshake(connection: &mut Connection, socket: &Socket, authorities: &str) -> Result<bool, Outcome> {
    shake_hands(connection, socket).map_err(|error| outcome_of(&error, authorities))
}

fn outcome_of(error: &io::Error, authorities: &str) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Outcome::Reset,
        io::ErrorKind::UnexpectedEof => Outcome::Tls(CLOSED.to_owned()),
        _ => Outcome::Tls(sentence_of_handshake(error, authorities)),
    }
}
