//! TLS towards clients: the certificates of files, which of them a client gets, and the next ones, which the files hold by then.
//! Knows nothing of sockets, nor of what is said on a connection.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::fmt_http_date;
use rustls::client::verify_server_name;
use rustls::crypto::ring::cipher_suite as suite;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite};

use crate::message::shown_path;
use crate::net::pem::Unusable;
use crate::net::{certificate, pem};
use crate::runtime::sync::Mutex;

/// The first of them that a client has is spoken. AES-128 is: most clients put AES-256 first, whose SHA-384 makes a handshake up to
/// a sixth dearer on both sides, for a margin that no attack comes near.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
/// How far clocks may differ from that of the authority that has just signed a certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The time before a certificate's end in which each day has a warning.
const WARNING_TIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The files of a certificate: its chain, and its key, which may be in the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate itself and those that lead from it to a root, in PEM.
    pub chain: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// The files that TLS towards clients is made of, and what backends are told of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates; the first is for clients that ask for no name, or for one that none has.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities whose certificates clients must show, if they must.
    pub client_ca: Option<PathBuf>,
    /// Whether backends are told the subject of the client's certificate.
    pub tells_subject: bool,
}

/// A file of certificates in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub file: String,
    /// The last second at which all of them are valid that count.
    pub not_after: SystemTime,
    /// What else is to be warned of, in sentences.
    pub oddities: Vec<String>,
}

/// Speaks TLS with clients.
pub struct ServerTls {
    files: TlsFiles,
    current: Mutex<Arc<Loaded>>,
}

/// What the files held when they were read.
struct Loaded {
    config: Arc<ServerConfig>,
    served: Vec<Served>,
    /// In the order of their files.
    keys: Vec<Arc<CertifiedKey>>,
}

impl TlsFiles {
    /// Reads and checks all files. An error names the file and what is wrong with it. Blocks on the disk.
    pub fn check(&self) -> Result<Vec<Served>, String> {
        Ok(Loaded::read(self, SystemTime::now(), None)?.served)
    }
}

impl ServerTls {
    /// Reads the files; the error names one, and what is wrong with it. Blocks on the disk.
    pub fn read(files: TlsFiles) -> Result<Arc<ServerTls>, String> {
        let loaded = Loaded::read(&files, SystemTime::now(), None)?;
        Ok(Arc::new(ServerTls { files, current: Mutex::new(Arc::new(loaded)) }))
    }

    /// Reads the files again, all or nothing: clients that come from now on get what they hold. A pair whose certificate has ended in
    /// use, and has yet to be renewed, keeps no other out. Blocks on the disk.
    pub fn reload(&self) -> Result<(), String> {
        let loaded = Loaded::read(&self.files, SystemTime::now(), Some(&self.current()))?;
        *self.current.lock() = Arc::new(loaded);
        Ok(())
    }

    /// The certificates in use.
    pub fn served(&self) -> Vec<Served> {
        self.current().served.clone()
    }

    /// The proxy's side of a new connection.
    pub(crate) fn connection(&self) -> Result<Box<rustls::Connection>, Error> {
        Ok(Box::new(ServerConnection::new(self.current().config.clone())?.into()))
    }

    /// Whether backends are told the subject of the client's certificate.
    pub(crate) fn tells_subject(&self) -> bool {
        self.files.tells_subject
    }

    fn current(&self) -> Arc<Loaded> {
        self.current.lock().clone()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Served {
    /// The sentence for the log.
    pub fn sentence(&self) -> String {
        format!("the certificate of {} is valid until {}", self.file, fmt_http_date(self.not_after))
    }

    /// Whether it ends so soon that each day has a warning.
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        self.not_after < now + WARNING_TIME
    }

    /// The sentence of that warning, if it ends so soon, or has ended.
    pub fn ending(&self, now: SystemTime) -> Option<String> {
        let has_ended = self.not_after < now;
        let expired = || format!("the certificate of {} expired on {}", self.file, fmt_http_date(self.not_after));
        let told = if has_ended { expired() } else { self.sentence() };
        self.ends_soon(now).then(|| format!("{told}: renew it, then send SIGHUP"))
    }

    /// All that is to be warned of now.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        self.oddities.iter().cloned().chain(self.ending(now)).collect()
    }
}

impl Loaded {
    /// Reads the files; with `before`, what is in force, again.
    fn read(files: &TlsFiles, now: SystemTime, before: Option<&Loaded>) -> Result<Loaded, String> {
        let cipher_suites = CIPHER_SUITES.to_vec();
        let provider = Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() });
        let mut served = Vec::new();
        let mut keys = Vec::new();
        for files in &files.certificates {
            let key = files.read()?;
            let in_force = before.and_then(|before| before.keys.get(keys.len()));
            let is_in_force = in_force.is_some_and(|in_force| in_force.cert == key.cert);
            let mut of_file = valid(&files.chain, &key.cert, is_in_force, now)?;
            of_file.oddities.extend(oddities(&of_file.file, &key.cert[0], keys.is_empty()));
            served.push(of_file);
            keys.push(Arc::new(key));
        }
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let (verifier, ends) = authorities(path, provider, now)?;
                if served.iter().all(|other| other.file != ends.file) {
                    served.push(ends);
                }
                builder.with_client_cert_verifier(verifier)
            }
        };
        let by_name = ByName::new(keys.clone());
        if let Some(before) = before {
            warn_of_lost_names(&mut served, before, &by_name);
        }
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.ignore_client_order = true;
        // No other protocol is spoken here.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // Sessions go on by tickets, which cost no memory here; their keys rotate. A client that must show a certificate shows it
        // each time: a session would outlive it. Each connection brings the ticket for the next one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = usize::from(files.client_ca.is_none());
        if files.client_ca.is_none() {
            config.ticketer = match before {
                // Sessions go on.
                Some(before) => before.config.ticketer.clone(),
                None => ring::Ticketer::new().map_err(|error| format!("no random bytes for keys: {error}"))?,
            };
        }
        Ok(Loaded { config: Arc::new(config), served, keys })
    }
}

impl CertificateFiles {
    fn read(&self) -> Result<CertifiedKey, String> {
        let [chain_path, key_path] = [&self.chain, &self.key].map(|path| path.to_string_lossy());
        let in_chain = |reason| format!("{}: {reason}", shown_path(&self.chain));
        let in_key = |reason| format!("{}: {reason}", shown_path(&self.key));
        let chain = pem::read(&chain_path).and_then(|bytes| pem::chain(&bytes)).map_err(in_chain)?;
        let key = pem::read(&key_path).and_then(|bytes| pem::key(&bytes, "; if another file does, write CHAIN,KEY"));
        pem::certified(chain, key.map_err(in_key)?).map_err(|unusable| match unusable {
            Unusable::Pair if self.chain == self.key => {
                in_chain("its private key isn't that of its first certificate".to_owned())
            }
            Unusable::Pair => {
                in_key(format!("this private key isn't that of the first certificate in {}", shown_path(&self.chain)))
            }
            Unusable::Key => in_key(pem::UNUSABLE_KEY.to_owned()),
        })
    }
}

/// What a certificate lacks that clients ask for, in sentences. The first one is for those, too, that ask for an address.
fn oddities(file: &str, der: &CertificateDer, is_first: bool) -> Vec<String> {
    let has_name = !names_of(der).is_empty();
    let nameless = match is_first {
        true if has_name || certificate::has_address_or_uri(der) => None,
        true => Some("has neither a DNS name nor an address: clients that check it refuse it"),
        false if has_name => None,
        false => Some("has no DNS name: only clients that can't check the ones before it get it"),
    };
    let useless = "is for other uses than a server's (serverAuth): clients that check it refuse it";
    let told = [nameless, certificate::excludes_servers(der).then_some(useless)];
    told.into_iter().flatten().map(|oddity| format!("the certificate of {file} {oddity}")).collect()
}

/// Warns of names that a certificate was for before it was read again, and that none is for any more: a slip of its renewal, mostly.
fn warn_of_lost_names(served: &mut [Served], before: &Loaded, now: &ByName) {
    for (of_file, key) in served.iter_mut().zip(&before.keys) {
        let mut lost = names_of(&key.cert[0]).into_iter().filter(|name| !now.has(name));
        let Some(first) = lost.next() else { continue };
        let more = match lost.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        let file = &of_file.file;
        let told = format!(
            "the certificate of {file} was for {first}{more}, and none is any more: clients that ask for that refuse it"
        );
        of_file.oddities.push(told);
    }
}

/// Reads the authorities that sign clients' certificates. Each is one; those that aren't valid count for nothing, and one must be.
fn authorities(
    path: &Path,
    provider: Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<(Arc<dyn ClientCertVerifier>, Served), String> {
    let bad = |reason: String| format!("{}: {reason}", shown_path(path));
    let bytes = pem::read(&path.to_string_lossy()).map_err(bad)?;
    // Each can be read.
    pem::roots(&bytes).map_err(bad)?;
    let certificates = pem::certificates(&bytes).map_err(bad)?;
    if let Some(index) = certificates.iter().position(|der| !certificate::is_authority(der)) {
        return Err(bad(format!("its certificate {} is no authority (CA:FALSE); name the one that signs", index + 1)));
    }
    let (mut roots, mut ends, mut ended) = (RootCertStore::empty(), Vec::new(), Vec::new());
    for (number, der) in (1..).zip(certificates) {
        match end_of(&der, now) {
            Ok(end) => {
                ends.push(end);
                roots.add(der).map_err(|error| bad(error.to_string()))?;
            }
            Err(reason) => ended.push(bad(format!("its certificate {number} {reason}"))),
        }
    }
    let Some(not_after) = ends.into_iter().min() else { return Err(ended.swap_remove(0)) };
    let oddities = ended.into_iter().map(|reason| reason + ", and counts for nothing: leave it out").collect();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok((verifier.map_err(|error| bad(error.to_string()))?, Served { file: shown_path(path), not_after, oddities }))
}

/// When the first of a file's certificates ends. An error says that the first one, which is the server's, has ended or has yet to
/// begin; one that has ended in force stays. Of the others clients may need none, so what isn't valid there is an oddity.
fn valid(path: &Path, certificates: &[CertificateDer], is_in_force: bool, now: SystemTime) -> Result<Served, String> {
    let file = shown_path(path);
    let (mut ends, mut oddities) = (Vec::new(), Vec::new());
    for (number, der) in (1..).zip(certificates) {
        let bad = |reason: String| format!("{file}: its certificate {number} {reason}");
        match end_of(der, now) {
            Ok(end) => ends.push(end),
            Err(reason) if number == 1 => {
                let ended = certificate::validity(der).map(|(_, end)| at(end));
                ends.push(ended.filter(|end| is_in_force && *end < now).ok_or_else(|| bad(reason))?);
            }
            Err(reason) => {
                oddities.push(bad(reason) + ": clients that need it refuse the first; leave it out, or renew it");
            }
        }
    }
    Ok(Served { file, not_after: ends.into_iter().min().unwrap_or(now), oddities })
}

/// The last second at which a certificate is valid. An error says, behind its name, that it has ended or has yet to begin.
fn end_of(der: &CertificateDer, now: SystemTime) -> Result<SystemTime, String> {
    let (begin, end) = certificate::validity(der).ok_or("has no begin or no end")?;
    let [begin, end] = [begin, end].map(at);
    if end < now {
        return Err(format!("expired on {}", fmt_http_date(end)));
    }
    if begin > now + CLOCK_SKEW {
        return Err(format!("isn't valid before {}", fmt_http_date(begin)));
    }
    Ok(end)
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// The names that a certificate is for, in lower case: those that a client takes.
fn names_of(der: &CertificateDer) -> BTreeSet<String> {
    let Ok(parsed) = ParsedCertificate::try_from(der) else { return BTreeSet::new() };
    let is_taken = |name: &String| {
        let one = name.strip_prefix("*.").map_or_else(|| name.clone(), |rest| format!("any-name.{rest}"));
        ServerName::try_from(one).is_ok_and(|one| verify_server_name(&parsed, &one).is_ok())
    };
    let names = certificate::dns_names(der).into_iter().map(|name| name.to_ascii_lowercase());
    names.filter(is_taken).collect()
}

/// Has a certificate for each name (SNI): the first that is for it alone, else the first by a wildcard, else the first of all; of those
/// whose signatures the client can check, if it can of one. No certificate is read for a hello, which strangers send as they like.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
    alone: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what stands behind `*.`.
    by_wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    fn new(keys: Vec<Arc<CertifiedKey>>) -> ByName {
        let mut chosen = ByName { keys, alone: HashMap::new(), by_wildcard: HashMap::new() };
        for key in &chosen.keys {
            let names = names_of(&key.cert[0]);
            for name in &names {
                // What is for any name beside it is so by a wildcard.
                let is_among = |(_, rest): (&str, &str)| names.contains(&format!("*.{rest}"));
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut chosen.by_wildcard, rest),
                    None if name.split_once('.').is_some_and(is_among) => continue,
                    None => (&mut chosen.alone, name.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(key.clone());
            }
        }
        chosen
    }

    /// Whether one of them is for this name, or for all that a wildcard is for.
    fn has(&self, name: &str) -> bool {
        let is_by_wildcard = |(_, rest): (&str, &str)| self.by_wildcard.contains_key(rest);
        self.alone.contains_key(name) || name.split_once('.').is_some_and(is_by_wildcard)
    }

    /// The best first.
    fn of(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        let alone = name.as_ref().and_then(|name| self.alone.get(name));
        let by_wildcard = name.as_ref().and_then(|name| self.by_wildcard.get(name.split_once('.')?.1));
        alone.into_iter().chain(by_wildcard).chain([&self.keys]).flatten()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let is_checked = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let keys = || self.of(hello.server_name());
        keys().find(is_checked).or_else(|| keys().next()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for these names, and its key.
    fn pem(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    fn certified(names: &[&str]) -> Arc<CertifiedKey> {
        let (chain, key) = pem(names, |_| {});
        let (chain, key) = (pem::chain(chain.as_bytes()), pem::key(key.as_bytes(), ""));
        Arc::new(pem::certified(chain.expect("a chain"), key.expect("a key")).unwrap_or_else(|_| panic!("a pair")))
    }

    #[test]
    fn what_clients_must_be_signed_by_are_authorities_that_are_valid() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let (pinned, key) = pem(&["a.example"], |_| {});
        fs::write(path("server.pem"), pinned.clone() + &key).expect("a file");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let params = CertificateParams::new(vec!["b.example".to_owned()]).expect("a name");
        let leaf = params.signed_by(&KeyPair::generate().expect("a key"), &issuer).expect("a certificate").pem();
        let authority = |begin: i32, end: i32| {
            let change = |params: &mut CertificateParams| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.distinguished_name.push(DnType::CommonName, format!("{begin} to {end}"));
                (params.not_before, params.not_after) = (date_time_ymd(begin, 1, 1), date_time_ymd(end, 1, 1));
            };
            pem(&[], change).0
        };
        let good = authority(2001, 3001);
        let rows = [
            ("one", good.clone(), Ok(("3001", None))),
            ("two", good.clone() + &authority(2001, 2999), Ok(("2999", None))),
            ("one that has signed itself", pinned.clone(), Ok(("4096", None))),
            ("a leaf", leaf.clone(), Err("its certificate 1 is no authority (CA:FALSE)")),
            ("a leaf behind one", good.clone() + &leaf, Err("its certificate 2 is no authority (CA:FALSE)")),
            ("an old one", authority(2001, 2002), Err("its certificate 1 expired on Tue, 01 Jan 2002 00:00:00 GMT")),
            (
                "an old one behind one",
                good.clone() + &authority(2001, 2002),
                Ok(("3001", Some("certificate 2 expired on"))),
            ),
            ("a later one", authority(3001, 3002), Err("its certificate 1 isn't valid before")),
        ];
        for (label, text, expected) in rows {
            fs::write(path("ca.pem"), text).expect("a file");
            let own = CertificateFiles { chain: path("server.pem"), key: path("server.pem") };
            let client_ca = Some(path("ca.pem"));
            let checked = TlsFiles { certificates: vec![own], client_ca, ..TlsFiles::default() }.check();
            match (checked, expected) {
                (Ok(served), Ok((year, oddity))) => {
                    assert_eq!(served.len(), 2, "{label}");
                    let (told, oddities) = (served[1].sentence(), &served[1].oddities);
                    assert!(told.contains("ca.pem is valid until ") && told.contains(year), "{label}: {told}");
                    assert_eq!(oddities.len(), usize::from(oddity.is_some()), "{label}: {oddities:?}");
                    assert!(oddity.is_none_or(|oddity| oddities[0].contains(oddity)), "{label}: {oddities:?}");
                }
                (Err(told), Err(reason)) => assert!(told.contains(&format!("ca.pem: {reason}")), "{label}: {told}"),
                (checked, _) => panic!("{label}: {checked:?}"),
            }
        }
    }

    /// Makes files of certificates that are valid from 2001 to these years, each with its key.
    fn put(path: &Path, ends: &[i32]) {
        let of = |end: &i32| {
            pem(&["a.example"], |params| {
                (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(*end, 1, 1));
            })
        };
        let made: Vec<_> = ends.iter().map(of).collect();
        let chain: String = made.iter().map(|(certificate, _)| certificate.as_str()).collect();
        fs::write(path, chain + &made[0].1).expect("a file");
    }

    fn year(year: i32) -> SystemTime {
        date_time_ymd(year, 1, 2).into()
    }

    /// Was seen as: one certificate that had ended kept all renewed ones out at SIGHUP.
    #[test]
    fn what_has_ended_in_force_keeps_nothing_out_when_files_are_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.pem", "b.pem"].map(|name| folder.path().join(name));
        let certificates = paths.iter().map(|path| CertificateFiles { chain: path.clone(), key: path.clone() });
        let files = TlsFiles { certificates: certificates.collect(), ..TlsFiles::default() };
        put(&paths[0], &[2003]);
        put(&paths[1], &[2003]);
        let mut in_force = Loaded::read(&files, year(2002), None).expect("good files");
        assert!(Loaded::read(&files, year(2004), None).is_err(), "at the start");
        put(&paths[1], &[2009]);
        in_force = Loaded::read(&files, year(2004), Some(&in_force)).expect("it is renewed");
        let expired = "a.pem expired on Wed, 01 Jan 2003 00:00:00 GMT: renew it, then send SIGHUP";
        let [warning] = &in_force.served[0].warnings(year(2004))[..] else { panic!("{:?}", in_force.served) };
        assert!(warning.ends_with(expired), "{warning}");
        assert_eq!(in_force.served[1].warnings(year(2004)), [""; 0]);
        put(&paths[0], &[2003]);
        let refused = Loaded::read(&files, year(2004), Some(&in_force)).map(|_| ()).expect_err("it is another");
        assert!(refused.ends_with("a.pem: its certificate 1 expired on Wed, 01 Jan 2003 00:00:00 GMT"), "{refused}");
    }

    /// Was seen as: "valid until" of a renewed certificate for another site, and every client refused it.
    #[test]
    fn names_that_a_renewed_certificate_has_lost_are_warned_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.pem", "b.pem"].map(|name| folder.path().join(name));
        let put = |at: usize, names: &[&str]| {
            let (chain, key) = pem(names, |_| {});
            fs::write(&paths[at], chain + &key).expect("a file");
        };
        let certificates = paths.iter().map(|path| CertificateFiles { chain: path.clone(), key: path.clone() });
        let files = TlsFiles { certificates: certificates.collect(), ..TlsFiles::default() };
        put(0, &["a.example", "b.a.example", "*.d.example"]);
        put(1, &["z.example"]);
        let before = Loaded::read(&files, SystemTime::now(), None).expect("good files");
        let rows: [(&[&str], &str); 6] = [
            (&["a.example", "b.a.example", "*.d.example", "x.example"], ""),
            (&["a.example", "*.a.example", "*.d.example"], ""),
            (&["a.example", "b.a.example", "c.d.example"], "was for *.d.example, and none is any more"),
            (&["b.a.example", "*.d.example"], "was for a.example, and none is any more"),
            (&["staging.example"], "was for *.d.example and 2 more, and none is any more"),
            (&["a.example", "*.d.example", "z.example"], "was for b.a.example, and none is any more"),
        ];
        for (names, expected) in rows {
            put(0, names);
            let served = Loaded::read(&files, SystemTime::now(), Some(&before)).expect("good files").served;
            let told = served[0].oddities.join("; ");
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{names:?}: {told}");
            assert_eq!(served[1].oddities, [""; 0], "{names:?}");
        }
    }

    /// Was seen as: an old root behind the others, which no client needed, stopped the start.
    #[test]
    fn one_that_has_ended_behind_the_first_is_an_oddity() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.pem");
        let files = CertificateFiles { chain: path.clone(), key: path.clone() };
        let files = TlsFiles { certificates: vec![files], ..TlsFiles::default() };
        put(&path, &[2020, 2010, 2003]);
        let served = Loaded::read(&files, year(2004), None).expect("good files").served.remove(0);
        let until = SystemTime::from(date_time_ymd(2010, 1, 1));
        assert_eq!(served.not_after, until, "of those that are valid");
        let [oddity] = &served.oddities[..] else { panic!("{served:?}") };
        assert!(oddity.contains("a.pem: its certificate 3 expired on Wed, 01 Jan 2003"), "{oddity}");
        put(&path, &[2003, 2020]);
        assert!(Loaded::read(&files, year(2004), None).is_err());
    }

    /// Was seen as: `clients that check it refuse it` of a certificate of SPIFFE's, which its clients take by its URI.
    #[test]
    fn a_certificate_with_a_uri_alone_is_warned_of_only_if_clients_must_ask_for_it_by_name() {
        let of = |names: &[&str], uri: Option<&str>| {
            let uri = uri.map(|uri| rcgen::SanType::URI(uri.try_into().expect("a URI")));
            pem::certificates(pem(names, |params| params.subject_alt_names.extend(uri)).0.as_bytes())
                .expect("one")
                .remove(0)
        };
        let spiffe = Some("spiffe://a.example/b");
        let rows = [
            ("nothing", of(&[], None), [1, 1]),
            ("a URI", of(&[], spiffe), [0, 1]),
            ("an address", of(&["192.0.2.7"], None), [0, 1]),
            ("a DNS name", of(&["a.example"], None), [0, 0]),
        ];
        for (label, der, expected) in rows {
            assert_eq!([true, false].map(|is_first| oddities("a.pem", &der, is_first).len()), expected, "{label}");
        }
    }

    #[test]
    fn a_name_is_looked_up_among_those_for_it_alone_then_by_wildcard() {
        let certificates: [&[&str]; 6] = [
            &["first.example"],
            &["*.a.example", "b.a.example", "A.Example"],
            &["b.a.example", "c.a.example"],
            &["c.a.example", "*.a.example", "*.*.d.example", "*.example"],
            &["192.0.2.7"],
            &["*.a.example"],
        ];
        let keys: Vec<_> = certificates.iter().map(|names| certified(names)).collect();
        let by_name = ByName::new(keys.clone());
        let rows: [(Option<&str>, &[usize]); 14] = [
            (None, &[]),
            (Some("first.example"), &[0]),
            (Some("FIRST.example."), &[0]),
            (Some("other.example"), &[]),
            (Some("a.example"), &[1]),
            (Some("b.a.example"), &[2, 1, 3, 5]),
            (Some("c.a.example"), &[2, 1, 3, 5]),
            (Some("C.A.EXAMPLE."), &[2, 1, 3, 5]),
            (Some("d.a.example"), &[1, 3, 5]),
            (Some("e.d.a.example"), &[]),
            (Some("e.e.d.example"), &[]),
            (Some("*.a.example"), &[1, 3, 5]),
            (Some("192.0.2.7"), &[]),
            (Some(""), &[]),
        ];
        for (name, expected) in rows {
            let index = |key: &Arc<CertifiedKey>| keys.iter().position(|other| Arc::ptr_eq(key, other)).expect("one");
            let found: Vec<usize> = by_name.of(name).map(index).collect();
            // All of them in their order stand in for those that are for it.
            assert_eq!(found, [expected, &[0, 1, 2, 3, 4, 5]].concat(), "{name:?}");
        }
    }
}
