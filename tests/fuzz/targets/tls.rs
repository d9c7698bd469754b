//! TLS with clients: whatever happens to their records, what comes out is what was said.
#![no_main]

use std::sync::LazyLock;

use red_tentacle::fuzzing::TlsPeers;

static PEERS: LazyLock<TlsPeers> = LazyLock::new(|| {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let text = [signed.cert.pem(), signed.signing_key.serialize_pem()].concat();
    let file = std::env::temp_dir().join(format!("red-tentacle-fuzz-{}.pem", std::process::id()));
    std::fs::write(&file, text).expect("a file");
    let peers = TlsPeers::new(&file);
    std::fs::remove_file(&file).expect("a file");
    peers
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| PEERS.check(bytes));
