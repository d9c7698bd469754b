//! Properties that must hold for any bytes at all: checked by the fuzzers in `tests/fuzz`, and by property tests for as
//! long as tests may last. Not part of the program.

use std::sync::LazyLock;

use http::{HeaderMap, Method};

use crate::config::{Config, HostHeader};
use crate::downstream;
pub use crate::downstream::fuzzing::{connection, head};
use crate::message::headers::{ViaId, has_token, upgrade_of};
use crate::message::{Address, Networks, Request, RequestId};
pub use crate::net::fuzzing::TlsPeers;
use crate::proxy;
use crate::upstream;
use crate::upstream::fuzzing::Script;

/// Texts that no backend may get from a client, whatever the client sends.
const NEVER: [&str; 8] =
    ["transfer-encoding", "te", "trailer", "expect", "keep-alive", "proxy-connection", "proxy-authorization", "proxy"];
/// Fields that the proxy makes or changes.
const OWN: [&str; 9] = [
    "host",
    "content-length",
    "connection",
    "upgrade",
    "via",
    "cdn-loop",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

/// Made once: the count of cores is read from files.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// Checks chunks of a request, and of an answer.
pub fn chunks(bytes: &[u8]) {
    downstream::fuzzing::chunks(bytes);
    answer_chunks(bytes);
}

/// Checks that ureq gets the same chunks whole and in pieces, that they mean what was sent, and that they are as plain
/// as can be.
fn answer_chunks(bytes: &[u8]) {
    let Some((size, input)) = bytes.split_first() else { return };
    let whole = upstream::fuzzing::cleaned(std::iter::once(input));
    let pieces = upstream::fuzzing::cleaned(input.chunks(1 + usize::from(*size)));
    assert_eq!(whole.as_deref().ok(), pieces.as_deref().ok());
    let Ok(clean) = whole else { return };
    assert_eq!(upstream::fuzzing::data_of(&clean), upstream::fuzzing::data_of(input));
    assert_eq!(upstream::fuzzing::cleaned(std::iter::once(&clean[..])).as_ref(), Ok(&clean));
    assert!(clean.len() <= input.len());
}

/// Checks that a request that is accepted reaches a backend as one well-formed request, as it was meant.
pub fn to_backend(bytes: &[u8]) {
    let Some((settings, stream)) = bytes.split_first() else { return };
    let Some(request) = downstream::fuzzing::request(stream) else { return };
    let host = if settings & 1 == 0 { HostHeader::Backend } else { HostHeader::Preserve };
    let (base, text) =
        if settings & 2 == 0 { ("", "http://b.example") } else { ("/base", "http://b.example:81/base/") };
    let address = Address::parse(text).expect("an address");
    let meant = Meant::of(&request, base, settings & 8 != 0);
    let everyone = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("a network"));
    let trusted_proxies = if meant.is_peer_trusted { Networks::new(&everyone) } else { Networks::default() };
    let (via, id) = (ViaId::random(settings & 4 != 0), RequestId::of(&HeaderMap::new()));
    let config = Config { host, ..CONFIG.clone() };
    let outgoing = proxy::outgoing(Box::new(request), &via, &config, &trusted_proxies, &id);
    let sent = upstream::fuzzing::sent(&outgoing, &address);
    check_title_case(&sent);
    meant.check(&sent);
}

/// Checks that names are written as those backends expect it that compare them byte for byte.
fn check_title_case(request: &[u8]) {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").expect("an empty line");
    for line in request[..end].split(|byte| *byte == b'\n').skip(1) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let mut words = name.split(|byte| *byte == b'-');
        assert!(words.all(|word| !word.first().is_some_and(u8::is_ascii_lowercase)), "{}", text_of(line));
    }
}

/// Checks that an answer means the same to a leg as to ureq, at once and in pieces. The first byte tells the method,
/// whether the connection ends with the last piece, and how much is read of the body at a time.
pub fn from_backend(bytes: &[u8]) {
    let Some((settings, bytes)) = bytes.split_first() else { return };
    let method = [Method::GET, Method::HEAD, Method::POST, Method::DELETE][usize::from(settings & 3)].clone();
    let (sizes, input) = downstream::fuzzing::split(bytes);
    let ends: Vec<usize> = sizes.ends(input.len()).collect();
    let script = Script { input, ends: &ends, ends_at_once: settings & 4 != 0 };
    upstream::fuzzing::from_backend(&method, &script, 1 + usize::from(settings >> 3));
}

struct Meant {
    method: String,
    target: String,
    headers: HeaderMap,
    upgrades: bool,
    is_peer_trusted: bool,
    body: Option<Vec<u8>>,
}

impl Meant {
    fn of(request: &Request, base: &str, is_peer_trusted: bool) -> Meant {
        let body = request.body.as_ref().map(|spool| {
            let mut body = Vec::new();
            std::io::copy(&mut spool.reader(), &mut body).expect("a body in memory");
            body
        });
        let target = request.target.as_str();
        Meant {
            method: request.method.to_string(),
            target: if target == "*" { target.to_owned() } else { format!("{base}{target}") },
            headers: request.headers.clone(),
            upgrades: upgrade_of(request).is_some(),
            is_peer_trusted,
            body,
        }
    }

    fn check(&self, written: &[u8]) {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Request::new(&mut fields);
        let parsing = parsed.parse(written).expect("a request");
        let httparse::Status::Complete(length) = parsing else { panic!("half a head: {}", text_of(written)) };
        assert_eq!((parsed.method, parsed.version), (Some(self.method.as_str()), Some(1)));
        assert_eq!(parsed.path, Some(self.target.as_str()), "byte for byte");
        let values = |name: &str| -> Vec<&[u8]> {
            let named = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| field.value).collect()
        };
        for name in NEVER {
            assert!(values(name).is_empty(), "{name}");
        }
        assert_eq!((values("host").len(), values("x-forwarded-for").len()), (1, 1));
        assert!(
            self.is_peer_trusted || !values("x-forwarded-for")[0].contains(&b','),
            "of the peer's own address only"
        );
        let others = self.headers.get_all("cdn-loop").iter().count();
        assert_eq!(values("cdn-loop").len(), others + 1, "its own way behind that of others");
        assert_eq!(values("connection"), if self.upgrades { vec![&b"upgrade"[..]] } else { vec![] });
        assert_eq!(values("upgrade").len(), usize::from(self.upgrades));
        let body = self.body.as_deref().unwrap_or_default();
        assert_eq!(text_of(&written[length..]), text_of(body));
        let told = body.len().to_string();
        match values("content-length")[..] {
            [] => assert!(self.body.is_none()),
            [length] => assert_eq!(length, told.as_bytes()),
            _ => panic!("several lengths"),
        }
        for name in self.headers.keys() {
            let is_named = has_token(&self.headers, &http::header::CONNECTION, name.as_str());
            let is_word_of_way =
                |name: &str| ["forwarded", "x-real-ip"].contains(&name) || name.starts_with("x-forwarded-");
            let hyphened = name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let is_word = is_word_of_way(name.as_str());
            let is_own = ["cdn-loop", "content-length", "transfer-encoding", "x-request-id"].contains(&&*hyphened);
            if hyphened != name.as_str() && (is_own || is_word_of_way(&hyphened)) {
                assert!(values(name.as_str()).is_empty(), "{name} may be taken for {hyphened}");
            } else if is_word && !self.is_peer_trusted {
                assert!(OWN.contains(&name.as_str()) || values(name.as_str()).is_empty(), "{name} of no trusted peer");
            } else if is_named && !is_word {
                let is_own = OWN.contains(&name.as_str());
                assert!(is_own || values(name.as_str()).is_empty(), "{name} is about the client's connection");
            } else if !NEVER.contains(&name.as_str()) && !OWN.contains(&name.as_str()) && name != "proxy-authenticate" {
                let sent: Vec<_> = self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
                assert_eq!(values(name.as_str()), sent, "{name}");
            }
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Pieces that requests are made of, and pieces that spoil them.
    const WORDS: [&str; 58] = [
        "GET / HTTP/1.1\r\n",
        "POST /a?b=c HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.0\r\n",
        "GET http://h/<^`\">%zz HTTP/1.1\r\n",
        "HEAD /\\|{} HTTP/1.1\r\n",
        "Host: a\r\n",
        "host:\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "Connection: upgrade, x-a\r\n",
        "Upgrade: websocket\r\n",
        "X-A: 1\r\n",
        "x-b: caf\u{e9} \r\n",
        "Via: 1.1 x\r\n",
        "TE: trailers\r\n",
        "X-Forwarded-For: b, c\r\n",
        "X_Forwarded-For: b\r\n",
        "Content_Length: 3\r\n",
        "\r\n",
        "\r\n\r\n",
        "3\r\nabc\r\n",
        "3;x=y\r\nabc\r\n",
        "A\r\n0123456789\r\n",
        "0\r\n\r\n",
        "0\r\nT: u\r\n\r\n",
        "abc",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ";",
        "0",
        "f",
        "-",
        "+",
        "0x",
        "ffffffffffffffff",
        "\0",
        "#",
        "?",
        "HTTP/2.0",
        "GET",
        "x",
        "Content-Length: 99999999\r\n",
        "Host: b\r\n",
        "Transfer-Encoding: gzip\r\n",
        "CDN-Loop: x;y=\"z, \r\n",
        "Connection: cdn-loop, via\r\n",
        "Connection: forwarded, x-forwarded-for\r\n",
        "Forwarded: for=b;proto=https\r\n",
        "X-Forwarded-Port: 443\r\n",
        "X-Real-IP: b\r\n",
        "PUT / HTTP/1.1\r\n",
        "DELETE /d HTTP/1.1\r\n",
    ];

    /// Streams that are nearly good.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            12 => proptest::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..8),
        ];
        (any::<[u8; 2]>(), 0..8_usize, vec(word, 0..24)).prop_map(|(sizes, start, words)| {
            // Most begin like a request: else hardly any would get far.
            let start = if start < 5 { format!("{}Host: a\r\n", WORDS[start]).into_bytes() } else { Vec::new() };
            [&sizes[..], &start, &words.concat()].concat()
        })
    }

    /// Streams that are nearly good, behind requests that are described, as many as the second byte says.
    fn connections() -> impl Strategy<Value = Vec<u8>> {
        (streams(), any::<[u8; 9]>()).prop_map(|(stream, forms)| {
            let count = usize::from(stream[1] >> 3 & 3);
            [&stream[..2], &forms[..3 * count], &stream[2..]].concat()
        })
    }

    /// Streams that are nearly good, behind a chunked body's begin.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let word = proptest::sample::select(&WORDS[19..]).prop_map(|word| word.as_bytes().to_vec());
        (any::<[u8; 2]>(), vec(word, 0..12)).prop_map(|(sizes, words)| [&sizes[..], &words.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn any_head_is_read_as_it_is_written(bytes in streams()) {
            head(&bytes);
        }

        #[test]
        fn any_chunks_are_joined_as_they_are_written(bytes in bodies()) {
            chunks(&bytes);
        }

        #[test]
        fn any_request_that_is_accepted_reaches_the_backend_as_it_was_meant(bytes in streams()) {
            to_backend(&bytes[1..]);
        }

        #[test]
        fn bytes_without_any_sense_break_nothing(bytes in vec(any::<u8>(), 0..100)) {
            head(&bytes);
            chunks(&bytes);
            connection(&bytes);
            to_backend(&bytes);
        }
    }

    /// What happens between a client of TLS and the proxy: mostly what may well happen.
    fn meetings() -> impl Strategy<Value = Vec<u8>> {
        let sound = (0..13_u8, 0..16_u8).prop_map(|(step, number)| vec![number << 4 | step]);
        let unsound = (13..16_u8, 0..16_u8, vec(any::<u8>(), 1..20)).prop_map(|(step, number, mut bytes)| {
            bytes.insert(0, number << 4 | step);
            bytes
        });
        let steps = prop_oneof![12 => sound, 1 => unsound];
        (0..4_u8, vec(steps, 0..24)).prop_map(|(settings, steps)| [vec![settings], steps.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn whatever_happens_to_records_of_tls_what_comes_out_was_said(script in meetings()) {
            TLS_PEERS.check(&script);
        }
    }

    #[test]
    fn whatever_the_seeds_do_to_records_of_tls_what_comes_out_was_said() {
        let seeds = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/tls")).expect("seeds");
        let scripts = seeds.map(|seed| std::fs::read(seed.expect("a seed").path()).expect("a seed"));
        assert!(scripts.inspect(|script| TLS_PEERS.check(script)).count() > 10);
    }

    static TLS_PEERS: LazyLock<TlsPeers> = LazyLock::new(|| {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = [signed.cert.pem(), signed.signing_key.serialize_pem()].concat();
        std::fs::write(file.path(), text).expect("a file");
        TlsPeers::new(file.path())
    });

    proptest! {
        // This one has more ways to go than the others.
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_stream_is_the_same_requests_in_any_pieces(bytes in connections()) {
            connection(&bytes);
        }
    }
}
