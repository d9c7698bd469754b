//! TLS with a client whose records are cut, changed, repeated and mixed with others on their way, as a script says. What comes out is
//! what the client said, as far as that came, and it is whole where it looks so.

mod clients;
mod meeting;
mod way;
mod wire;

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::server_tls::{CertificateFiles, ServerTls, TlsFiles};
use clients::clients;
use meeting::Meeting;

/// The most steps of a script: what is wrong shows in few.
const STEPS_MAX: usize = 128;

/// The proxy's side of TLS and clients for it, made once. All of it behaves alike each time, though its keys differ.
pub struct TlsPeers {
    server: Arc<ServerTls>,
    clients: [Arc<ClientConfig>; 2],
}

impl TlsPeers {
    /// With the certificate and its key in this file.
    pub fn new(pem: &Path) -> TlsPeers {
        let file = CertificateFiles { chain: pem.to_owned(), key: pem.to_owned() };
        let files = TlsFiles { certificates: vec![file], ..TlsFiles::default() };
        let peers = TlsPeers { server: ServerTls::read(files).expect("a certificate"), clients: clients() };
        // Later clients of TLS 1.2 go on with this one's session, which costs a tenth.
        peers.check(&[2]);
        peers
    }

    /// Follows the script, and checks what comes of it. Its first byte says the version, and whether it begins behind the handshake.
    pub fn check(&self, script: &[u8]) {
        let Some((settings, script)) = script.split_first() else { return };
        let is_tls13 = settings & 1 != 0;
        let mut meeting = Meeting::new(&self.server, &self.clients[usize::from(is_tls13)], is_tls13);
        if settings & 2 != 0 {
            meeting.shake_hands();
        }
        let mut script = script.iter().copied();
        for _ in 0..STEPS_MAX {
            let Some(step) = script.next() else { break };
            meeting.step(step & 15, usize::from(step >> 4), &mut script);
            meeting.check_bounds();
        }
        meeting.settle();
        meeting.check_end();
    }
}
