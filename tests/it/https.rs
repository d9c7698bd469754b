//! HTTPS for clients: who gets which certificate, what is offered and refused, what hostile bytes can't do. The tables of `wire` run
//! over it as well.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use red_tentacle::config::Config;
use red_tentacle::net::server_tls::TlsFiles;
use rustls::crypto::ring;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, SignatureScheme, StreamOwned,
};

use crate::harness::{
    Authority, Binary, Client, Fake, HURRIED, Identity, LOCALHOST, Proxy, Raw, SOON, by_https, certificates, client_as,
    client_by, client_of, client_with, connection, eventually, get, has, pattern, written,
};

type Https = StreamOwned<ClientConnection, TcpStream>;

/// A proxy before this backend that speaks HTTPS.
fn proxy(backend: &str) -> (Proxy, SocketAddr) {
    with(backend, |_| {})
}

fn with(backend: &str, change: impl FnOnce(&mut Config)) -> (Proxy, SocketAddr) {
    let proxy = Proxy::with(&[backend.to_owned()], |config| {
        by_https(config);
        change(config);
    });
    let address = proxy.tls.expect("it speaks HTTPS");
    (proxy, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, SOON).expect("the proxy accepts");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.set_write_timeout(Some(SOON)).expect("a timeout");
    stream
}

/// A client that has said nothing yet, and asks for this name.
fn client(address: SocketAddr, config: ClientConfig, name: &str) -> Https {
    StreamOwned::new(connection(config, name), connect(address))
}

fn ordinary(address: SocketAddr) -> Https {
    client(address, client_of(&LOCALHOST.0), "localhost")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Sends the last request of a connection; all that comes until its end in order, or why there is none.
fn last(client: &mut Https) -> Result<String, String> {
    client.write_all(LAST.as_bytes()).map_err(|error| error.to_string())?;
    let mut reply = String::new();
    client.read_to_string(&mut reply).map_err(|error| error.to_string())?;
    Ok(reply)
}

/// Reads a reply whose body is known.
fn reply(client: &mut Https, body: &str) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(body.as_bytes()) {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a reply");
        bytes.push(byte[0]);
    }
}

#[test]
fn a_client_is_served_by_https_and_backends_hear_of_it() {
    let backend = Fake::with(200, "good");
    let (proxy, address) = proxy(&backend.url);
    let reply = last(&mut ordinary(address)).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("good"), "{reply}");
    let seen = backend.next();
    assert_eq!((seen.values("x-forwarded-proto"), seen.values("x-forwarded-for")), (vec!["https"], vec!["127.0.0.1"]));
    proxy.get("/");
    assert_eq!(backend.next().values("x-forwarded-proto"), ["http"], "at the other port");
}

/// What is agreed on with a client that offers so much.
#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_but_http_1() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let none: &[&str] = &[];
    let rows: [(&str, &[&rustls::SupportedProtocolVersion], &[&str], Result<(ProtocolVersion, Option<&str>), &str>);
        8] = [
        ("both", rustls::ALL_VERSIONS, none, Ok((ProtocolVersion::TLSv1_3, None))),
        ("1.3", &[&rustls::version::TLS13], none, Ok((ProtocolVersion::TLSv1_3, None))),
        ("1.2", &[&rustls::version::TLS12], none, Ok((ProtocolVersion::TLSv1_2, None))),
        ("http/1.1", rustls::ALL_VERSIONS, &["http/1.1"], Ok((ProtocolVersion::TLSv1_3, Some("http/1.1")))),
        ("a browser", rustls::ALL_VERSIONS, &["h2", "http/1.1"], Ok((ProtocolVersion::TLSv1_3, Some("http/1.1")))),
        ("curl -0", rustls::ALL_VERSIONS, &["http/1.0"], Ok((ProtocolVersion::TLSv1_3, Some("http/1.0")))),
        ("either", rustls::ALL_VERSIONS, &["http/1.0", "http/1.1"], Ok((ProtocolVersion::TLSv1_3, Some("http/1.1")))),
        ("HTTP/2 alone", rustls::ALL_VERSIONS, &["h2"], Err("NoApplicationProtocol")),
    ];
    for (label, versions, protocols, expected) in rows {
        let mut config = client_with(&LOCALHOST.0, versions);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = client(address, config, "localhost");
        let replied = last(&mut client);
        match expected {
            Ok((version, protocol)) => {
                assert!(replied.is_ok_and(|reply| reply.ends_with("good")), "{label}");
                let agreed = (client.conn.protocol_version(), client.conn.alpn_protocol());
                assert_eq!(agreed, (Some(version), protocol.map(str::as_bytes)), "{label}");
            }
            Err(reason) => assert!(replied.as_ref().is_err_and(|error| error.contains(reason)), "{label}: {replied:?}"),
        }
    }
}

/// `OpenSSL` and `rustls` ask for AES-256 first.
#[test]
fn aes_128_is_spoken_where_a_client_has_it() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let suites = || ring::ALL_CIPHER_SUITES.iter().map(rustls::SupportedCipherSuite::suite);
    for (version, prefix) in [(&rustls::version::TLS13, "TLS13_"), (&rustls::version::TLS12, "TLS_ECDHE_ECDSA_")] {
        let name = |suite: CipherSuite| suite.as_str().unwrap_or("").to_owned();
        let of_version = suites().map(name).filter(|name| name.starts_with(prefix));
        for only in of_version.map(Some).chain([None]) {
            let mut provider = ring::default_provider();
            provider.cipher_suites.retain(|suite| only.as_ref().is_none_or(|only| name(suite.suite()) == *only));
            let mut client = client(address, client_by(provider, &LOCALHOST.0, &[version]), "localhost");
            assert!(last(&mut client).expect("a reply").ends_with("good"), "{only:?}");
            let spoken = name(client.conn.negotiated_cipher_suite().expect("a suite").suite());
            assert!(only.map_or(spoken.contains("AES_128"), |only| only == spoken), "{prefix}: {spoken}");
        }
    }
}

#[test]
fn sessions_go_on_by_tickets_also_after_the_files_were_read_again() {
    let backend = Fake::with(200, "good");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (proxy, address) = proxy(&backend.url);
        let config = std::sync::Arc::new(client_with(&LOCALHOST.0, &[version]));
        let kinds = (0..3).map(|round| {
            let name = "localhost".try_into().expect("a name");
            let connection = ClientConnection::new(config.clone(), name).expect("a good configuration");
            let mut client = StreamOwned::new(connection, connect(address));
            assert!(last(&mut client).expect("a reply").ends_with("good"));
            if round == 1 {
                proxy.reloader().reload();
            }
            client.conn.handshake_kind()
        });
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(kinds[1..], [Some(HandshakeKind::Resumed); 2], "{version:?}: {kinds:?}");
    }
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate_and_the_first_is_the_default() {
    let backend = Fake::with(200, "good");
    let authority = Authority::new();
    let texts = [&["first.example"][..], &["a.example", "b.example"], &["*.wild.example"], &["one.wild.example"]]
        .map(|names| authority.identity(names));
    let (_directory, files) = certificates(&texts.each_ref().map(Identity::pem));
    let (_proxy, address) = with(&backend.url, |config| config.tls.certificates = files);
    let rows = [
        ("first.example", "first.example", true),
        ("a.example", "a.example", true),
        ("B.example", "b.example", true),
        ("x.wild.example", "x.wild.example", true),
        ("x.y.wild.example", "first.example", false),
        ("other.example", "first.example", false),
        ("127.0.0.1", "first.example", false),
    ];
    for (asked, shown, is_good) in rows {
        let mut client = client(address, client_of(&authority), asked);
        let replied = last(&mut client);
        assert_eq!(replied.is_ok(), is_good, "{asked}: {replied:?}");
        if let Err(error) = replied {
            assert!(error.contains(shown), "{asked} is shown the default: {error}");
        }
    }
    let shown = |name| {
        let mut client = client(address, client_of(&authority), name);
        last(&mut client).expect("a reply");
        client.conn.peer_certificates().expect("a chain")[0].clone().into_owned()
    };
    assert_ne!(shown("one.wild.example"), shown("two.wild.example"), "its own comes before the wildcard's");
}

#[test]
fn of_two_certificates_for_a_name_a_client_gets_one_that_it_can_check() {
    let backend = Fake::with(200, "good");
    let authority = Authority::new();
    let texts = [
        authority.identity(&["first.example"]),
        authority.identity(&["a.example"]),
        authority.identity_by(&rcgen::PKCS_ED25519, &["a.example"]),
    ];
    let (_directory, files) = certificates(&texts.each_ref().map(Identity::pem));
    let (_proxy, address) = with(&backend.url, |config| config.tls.certificates = files);
    let shown = |scheme: Option<SignatureScheme>| {
        let mut provider = ring::default_provider();
        let known = &mut provider.signature_verification_algorithms;
        let mapping = known.mapping.iter().filter(|(own, _)| scheme.is_none_or(|scheme| scheme == *own));
        known.mapping = Box::leak(mapping.copied().collect());
        let mut client = client(address, client_by(provider, &authority, rustls::ALL_VERSIONS), "a.example");
        last(&mut client).expect("a reply");
        client.conn.peer_certificates().expect("a chain")[0].clone().into_owned()
    };
    let first = shown(Some(SignatureScheme::ECDSA_NISTP256_SHA256));
    assert_ne!(shown(Some(SignatureScheme::ED25519)), first);
    assert_eq!(shown(None), first, "it can check both");
}

#[test]
fn keep_alive_pipelines_and_long_bodies_go_over_tls() {
    let backend = Raw::serving(|mut connection| {
        while let Some(request) = connection.request() {
            let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
            connection.reply(200, &request[head + 4..]);
        }
    });
    let (_proxy, address) = proxy(&backend.url);
    let mut client = ordinary(address);
    let body = pattern(3 * 1024 * 1024);
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut writer = [head.as_bytes(), &body].concat();
    for _ in 0..2 {
        writer.extend_from_slice(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
    }
    client.write_all(&writer).expect("the proxy reads");
    for expected in [&body[..], b"abc", b"abc"] {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let mut received = vec![0; expected.len()];
        client.read_exact(&mut received).expect("a body");
        assert!(received == expected, "{}", String::from_utf8_lossy(&head));
    }
}

/// The length of a body that isn't framed is told by its end alone: one without a farewell must not look like one in order.
#[test]
fn an_end_in_order_is_told_and_a_cut_body_has_none() {
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngood", false),
    ];
    for (answer, is_whole) in rows {
        let backend = Raw::serving(move |mut connection| {
            connection.request();
            connection.send(answer);
        });
        let (_proxy, address) = proxy(&backend.url);
        let mut client = ordinary(address);
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the proxy reads");
        let mut bytes = Vec::new();
        let ended = client.read_to_end(&mut bytes);
        assert_eq!(ended.is_ok(), is_whole, "{ended:?}");
    }
}

#[test]
fn a_tunnel_goes_over_tls_and_ends_in_order_either_way() {
    let backend = Raw::serving(|mut connection| {
        connection.request_head();
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello");
        let bytes = connection.rest();
        connection.send(bytes);
    });
    let (_proxy, address) = proxy(&backend.url);
    let mut client = ordinary(address);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .expect("the proxy reads");
    reply(&mut client, "hello");
    let body = pattern(200_000);
    client.write_all(&body).expect("the proxy reads");
    client.conn.send_close_notify();
    client.flush().expect("the proxy reads");
    let mut echoed = Vec::new();
    client.read_to_end(&mut echoed).expect("an end in order");
    assert!(echoed == body, "{}", echoed.len());
}

/// Some clients say farewell with their last request, and close only when they have been told farewell, too.
#[test]
fn a_farewell_behind_a_request_is_answered_after_its_reply() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let mut client = ordinary(address);
    client.write_all(GET.as_bytes()).expect("the proxy reads");
    reply(&mut client, "good");
    client.conn.writer().write_all(GET.as_bytes()).expect("room");
    client.conn.send_close_notify();
    client.flush().expect("the proxy reads");
    let (began, mut rest) = (Instant::now(), String::new());
    client.read_to_string(&mut rest).expect("an end in order");
    assert!(rest.ends_with("good") && began.elapsed() < SOON / 2, "{rest} {:?}", began.elapsed());
}

#[test]
fn a_client_that_leaves_abandons_its_race() {
    for in_order in [true, false] {
        let backend = Raw::hanging();
        let (_proxy, address) = proxy(&backend.url);
        let mut client = ordinary(address);
        client.write_all(GET.as_bytes()).expect("the proxy reads");
        backend.next();
        if in_order {
            client.conn.send_close_notify();
            client.flush().expect("the proxy reads");
        }
        client.sock.shutdown(Shutdown::Write).expect("a connection");
        backend.expect_hang_up();
    }
}

#[test]
fn plain_http_at_the_port_for_tls_is_told_so_and_so_is_tls_at_the_other() {
    let backend = Fake::with(200, "good");
    let arguments = [
        "--backends",
        &backend.url,
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        LOCALHOST.1.chain.to_str().expect("UTF-8"),
    ];
    let program = Binary::start(&arguments);
    let plain: SocketAddr = program.address();
    let line = program.line("HTTPS is spoken on ");
    let tls: SocketAddr = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    let hello = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let rows = [
        // Was seen as: "the request is plain HTTP: write https://", of a load balancer that is set to send it.
        ("\r\n\r\n\0\r\nQUIT\n", "but the PROXY protocol, which isn't spoken here"),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 51286 443\r\n", "but the PROXY protocol, which isn't spoken here"),
        ("\r\n", "write https://"),
        ("\n", "write https://"),
        ("", "write https://"),
    ];
    for (begin, expected) in rows {
        let mut client = Client::connect(tls);
        client.send([begin, hello].concat());
        let told = client.reply();
        assert_eq!((told.status, told.text().contains(expected)), (400, true), "{begin:?}: {told:?}");
    }
    program.line("400 This port speaks HTTPS, and the request is plain HTTP: write https:// for http:// (GET /hello)");
    let mut client = client_of_plain(plain);
    assert!(last(&mut client).is_err());
    program.line("TLS");
    assert!(last(&mut ordinary(tls)).expect("a reply").ends_with("good"));
}

fn client_of_plain(address: SocketAddr) -> Https {
    client(address, client_of(&LOCALHOST.0), "localhost")
}

/// What isn't TLS, or isn't as TLS wants it, ends its own connection and no other.
#[test]
fn hostile_bytes_end_their_own_connection_alone() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let hello = {
        let mut bytes = Vec::new();
        connection(client_of(&LOCALHOST.0), "localhost").write_tls(&mut bytes).expect("a hello");
        bytes
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = hello.clone();
        bytes[at] = byte;
        bytes
    };
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("noise", (0..=255).collect()),
        ("zeros", vec![0; 20_000]),
        ("another kind of record", changed(0, 0x17)),
        ("an alert", b"\x15\x03\x01\x00\x02\x02\x28".to_vec()),
        ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec()),
        ("the longest record", [&b"\x16\x03\x01\xff\xff"[..], &[1; 65_535]].concat()),
        ("empty records", b"\x16\x03\x01\x00\x00".repeat(2000)),
        ("a message of 16 MiB", [&b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..], &[0; 16_380]].concat().repeat(8)),
        ("another message", changed(5, 2)),
        ("two hellos", [&hello[..], &hello].concat()),
        ("a hello and noise", [&hello[..], &[0x55; 500]].concat()),
        ("a hello and data", [&hello[..], b"\x17\x03\x03\x00\x04data"].concat()),
    ];
    for (label, bytes) in rows {
        let mut stream = connect(address);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 10_000, "{label}: {}", rest.len());
        assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")), "{label}");
    }
}

#[test]
fn a_hello_in_pieces_is_one_and_so_are_requests() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let (mut tls, mut stream) = (connection(client_of(&LOCALHOST.0), "localhost"), connect(address));
    stream.set_nodelay(true).expect("a socket");
    let mut replied = Vec::new();
    tls.writer().write_all(LAST.as_bytes()).expect("room");
    loop {
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).expect("a vector takes all");
        }
        for byte in bytes {
            stream.write_all(&[byte]).expect("the proxy reads");
        }
        if tls.read_tls(&mut stream).expect("bytes") == 0 {
            break;
        }
        tls.process_new_packets().expect("TLS");
        let _ = tls.reader().read_to_end(&mut replied);
    }
    assert!(replied.ends_with(b"good"), "{}", String::from_utf8_lossy(&replied));
}

#[test]
fn a_client_that_says_nothing_or_half_a_hello_has_the_time_of_a_head() {
    let backend = Fake::with(200, "good");
    let proxy = Proxy::hurried(std::slice::from_ref(&backend.url), by_https);
    let address = proxy.tls.expect("it speaks HTTPS");
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let began = Instant::now();
        let mut stream = connect(address);
        stream.write_all(bytes).expect("the proxy reads");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() <= 7, "a farewell at most: {rest:?}");
        assert!(began.elapsed() >= HURRIED.head / 2, "{:?}", began.elapsed());
    }
}

/// Records with parts of a hello of 60,000 bytes, about as many as these.
fn endless_hello(bytes: usize) -> Vec<u8> {
    let part = |begin: &[u8]| [&b"\x16\x03\x01\x04\x00"[..], begin, &[0; 1024][begin.len()..]].concat();
    [part(b"\x01\x00\xea\x60\x03\x03"), part(b"").repeat(bytes / 1024)].concat()
}

/// Was seen as: half a hello could hold 67 KiB, where 40 are reckoned for a client.
#[test]
fn a_hello_without_end_is_refused_before_it_holds_more_than_is_reckoned_for_a_client() {
    let backend = Fake::with(200, "good");
    let path = LOCALHOST.1.chain.to_str().expect("UTF-8");
    let program = Binary::start(&["--backends", &backend.url, "--tls-listen", "127.0.0.1:0", "--tls-cert", path]);
    let line = program.line("HTTPS is spoken on ");
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    let before = program.resident_bytes();
    let halves: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(&endless_hello(26 * 1024)).expect("room");
            stream
        })
        .collect();
    // It reads in order.
    assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")));
    let each = program.resident_bytes().saturating_sub(before) / halves.len();
    println!("half a hello, {each} bytes each");
    assert!((20 * 1024..40 * 1024).contains(&each), "{each} bytes");
    let mut endless = connect(address);
    let _ = endless.write_all(&endless_hello(40 * 1024));
    let mut rest = Vec::new();
    let _ = endless.read_to_end(&mut rest);
    assert!(rest.len() < 100, "{rest:?}");
    program.line(": no TLS: its handshake is longer than 28672 bytes");
}

/// A flood of connections that never shake hands takes no place from clients that do.
#[test]
fn half_open_handshakes_give_way_first() {
    let backend = Fake::with(200, "good");
    let proxy = Proxy::hurried(std::slice::from_ref(&backend.url), |config| {
        by_https(config);
        config.max_connections = std::num::NonZeroUsize::new(16);
    });
    let address = proxy.tls.expect("it speaks HTTPS");
    let mut honest: Vec<_> = (0..4).map(|_| ordinary(address)).collect();
    for client in &mut honest {
        client.write_all(GET.as_bytes()).expect("the proxy reads");
        reply(client, "good");
    }
    let began = Instant::now();
    let mut silent = Vec::new();
    // Each has its moment; one after the other gives way to the next.
    while silent.len() < 48 && began.elapsed() < SOON {
        let mut stream = connect(address);
        stream.write_all(b"\x16\x03\x01").expect("room in the socket");
        silent.push(stream);
        thread::yield_now();
    }
    eventually("the others are served", || {
        honest.iter_mut().all(|client| {
            client.write_all(GET.as_bytes()).is_ok_and(|()| {
                reply(client, "good");
                true
            })
        })
    });
    assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")), "a newcomer");
}

/// Was seen as: behind a flood of half hellos, of which each kept its place for a second, a newcomer waited for seconds.
#[test]
fn a_newcomer_behind_a_flood_of_half_hellos_is_served_soon() {
    const PLACES: usize = 16;
    const ROUNDS: usize = 8;
    let backend = Fake::with(200, "good");
    let (_proxy, address) = with(&backend.url, |config| config.max_connections = std::num::NonZeroUsize::new(PLACES));
    let half = || {
        let mut stream = connect(address);
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").expect("room in the socket");
        stream
    };
    let began = Instant::now();
    let flood: Vec<_> = (0..ROUNDS * PLACES).map(|_| half()).collect();
    assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")));
    let took = began.elapsed();
    println!("behind {} half hellos: {took:?}", flood.len());
    // Eight rounds of a tenth of a second each, where there were eight of a second.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_drain_tells_clients_of_https_as_well() {
    let backend = Fake::with(200, "good");
    let (proxy, address) = proxy(&backend.url);
    let mut idle = ordinary(address);
    idle.write_all(GET.as_bytes()).expect("the proxy reads");
    reply(&mut idle, "good");
    proxy.stop();
    assert_eq!(idle.read(&mut [0; 16]).expect("an end in order"), 0);
}

#[test]
fn clients_must_show_a_certificate_where_that_is_asked_for_and_backends_are_told_whose() {
    let backend = Fake::with(200, "good");
    let authority = Authority::new();
    let (directory, _) = certificates(&[]);
    let ca = written(directory.path(), "ca.pem", &authority.pem());
    let (proxy, address) = with(&backend.url, |config| {
        config.tls = TlsFiles { client_ca: Some(ca), tells_subject: true, ..config.tls.clone() };
    });
    let identity = authority.clients_identity(&["a.example"]);
    let mut known = client(address, client_as(&LOCALHOST.0, identity.certified()), "localhost");
    let forged = LAST.replace("Host", "X-Forwarded-Client-Cert: Subject=\"CN=root\"\r\nHost");
    known.write_all(forged.as_bytes()).expect("the proxy reads");
    let mut replied = String::new();
    known.read_to_string(&mut replied).expect("a reply");
    assert!(replied.ends_with("good"), "{replied}");
    assert_eq!(backend.next().values("x-forwarded-client-cert"), ["Subject=\"CN=rcgen self signed cert\""]);
    assert!(last(&mut ordinary(address)).is_err(), "none");
    let stranger = Authority::new().clients_identity(&["a.example"]);
    assert!(
        last(&mut client(address, client_as(&LOCALHOST.0, stranger.certified()), "localhost")).is_err(),
        "another's"
    );
    // Was seen as: a trusted peer at the plain port, this host or a proxy before this one, chose the subject.
    let mut plain = Client::connect(proxy.address);
    let told = ["X-Forwarded-Client-Cert: Subject=\"CN=root\"", "X-Forwarded-For: 192.0.2.7"];
    plain.send_request("GET", "/", &told, None);
    assert_eq!(plain.reply().text(), "good");
    let seen = backend.next();
    assert_eq!(seen.values("x-forwarded-for"), ["192.0.2.7, 127.0.0.1"], "it is trusted");
    assert_eq!(seen.values("x-forwarded-client-cert"), [""; 0], "at the plain port");
}

/// A client of TLS 1.3 sends its request before it can hear that its certificate won't do.
#[test]
fn a_client_that_is_refused_is_told_why_whatever_it_has_sent_behind_it() {
    let backend = Fake::with(200, "good");
    let (directory, _) = certificates(&[]);
    let ca = written(directory.path(), "ca.pem", &Authority::new().pem());
    let (_proxy, address) = with(&backend.url, |config| {
        config.tls = TlsFiles { client_ca: Some(ca), ..config.tls.clone() };
    });
    for body in [0, 100_000] {
        let mut client = ordinary(address);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n");
        let sent = client.write_all(&[head.as_bytes(), &vec![b'x'; body]].concat());
        let told = sent.and_then(|()| client.read(&mut [0; 16])).expect_err("it is refused").to_string();
        assert!(told.contains("CertificateRequired"), "{body}: {told}");
    }
}

/// A session would outlive the certificate.
#[test]
fn clients_that_must_show_a_certificate_show_it_each_time() {
    let backend = Fake::with(200, "good");
    let authority = Authority::new();
    let (directory, _) = certificates(&[]);
    let ca = written(directory.path(), "ca.pem", &authority.pem());
    let (_proxy, address) = with(&backend.url, |config| {
        config.tls = TlsFiles { client_ca: Some(ca), ..config.tls.clone() };
    });
    let identity = authority.clients_identity(&["a.example"]);
    let config = std::sync::Arc::new(client_as(&LOCALHOST.0, identity.certified()));
    for _ in 0..2 {
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(config.clone(), name).expect("a good configuration");
        let mut client = StreamOwned::new(connection, connect(address));
        assert!(last(&mut client).expect("a reply").ends_with("good"));
        assert_eq!(client.conn.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn sighup_reads_certificates_again_all_or_nothing() {
    let backend = Fake::with(200, "good");
    let (first, second) = (Authority::new(), Authority::new());
    let (directory, files) = certificates(&[first.identity(&["localhost"]).pem()]);
    let path = files[0].chain.to_str().expect("UTF-8");
    let arguments = ["--backends", &backend.url, "--tls-listen", "127.0.0.1:0", "--tls-cert", path];
    let program = Binary::start(&arguments);
    let line = program.line("HTTPS is spoken on ");
    let address: SocketAddr = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    program.line(&format!("the certificate of {path} is valid until Sun, 01 Jan 4096"));
    let is_served = |authority: &Authority| last(&mut client(address, client_of(authority), "localhost")).is_ok();
    assert!(is_served(&first) && !is_served(&second));
    written(directory.path(), "0.pem", "no certificate");
    program.signal("HUP");
    program.line(&format!(
        "{path}: it holds no certificate; name a PEM file that does; the certificates stay as they were"
    ));
    assert!(is_served(&first));
    written(directory.path(), "0.pem", second.identity(&["localhost"]).pem());
    program.signal("HUP");
    program.line("is valid until");
    assert!(is_served(&second) && !is_served(&first));
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of_and_counted() {
    let backend = Fake::with(200, "good");
    let authority = Authority::new();
    let (_directory, files) =
        certificates(&[authority.identity_for(Duration::from_secs(13 * 24 * 60 * 60), &["localhost"]).pem()]);
    let path = files[0].chain.to_str().expect("UTF-8");
    let arguments = ["--backends", &backend.url, "--tls-listen", "127.0.0.1:0", "--tls-cert", path];
    let program = Binary::start(&arguments);
    let (_, admin) = program.addresses();
    let metrics = get(admin, "/metrics").text();
    assert!(
        metrics.contains(&format!("red_tentacle_tls_certificate_not_after_timestamp_seconds{{file=\"{path}\"}}")),
        "{metrics}"
    );
    let told = program.line("is valid until");
    assert!(told.contains("WARN") && told.ends_with(": renew it, then send SIGHUP"), "{told}");
}

/// Was seen as: after a bad renewal no client was served, and no figure said so.
#[test]
fn clients_that_do_not_take_the_certificate_are_counted_apart_from_strangers() {
    let backend = Fake::with(200, "good");
    let (proxy, address) = proxy(&backend.url);
    assert!(last(&mut ordinary(address)).is_ok());
    assert!(last(&mut client(address, client_of(&Authority::new()), "localhost")).is_err());
    connect(address).write_all(b"\x16\x03\x01\x00\x05hello").expect("room");
    let mut admin = Client::connect(proxy.admin);
    eventually("both are counted", || {
        admin.send_request("GET", "/metrics", &[], None);
        let metrics = admin.reply().text();
        ["certificate", "other"]
            .iter()
            .all(|why| metrics.contains(&format!("red_tentacle_tls_failures_total{{why=\"{why}\"}} 1\n")))
    });
}

/// Was seen as: not a word by `--check` of what the start warned of, and none at all of a sole certificate without a name.
#[test]
fn what_the_start_warns_of_in_a_certificate_is_told_by_a_check() {
    let authority = Authority::new();
    let ends = authority.identity_for(Duration::from_secs(13 * 24 * 60 * 60), &["localhost"]);
    let rows = [
        (authority.identity(&["localhost"]).pem().to_owned(), ""),
        (ends.pem().to_owned(), ": renew it, then send SIGHUP\n"),
        (
            authority.identity(&[]).pem().to_owned(),
            "has neither a DNS name nor an address: clients that check it refuse it\n",
        ),
    ];
    for (pem, warning) in rows {
        let (_directory, files) = certificates(&[&pem]);
        let path = files[0].chain.to_str().expect("UTF-8");
        let arguments = ["--backends", "http://127.0.0.1:9", "--tls-listen", "127.0.0.1:0", "--tls-cert", path];
        let mut command = Binary::command();
        command.args(arguments).arg("--check");
        let ended = Binary::run(command);
        assert_eq!(
            (ended.code, ended.stderr.lines().count()),
            (Some(0), usize::from(!warning.is_empty())),
            "{ended:?}"
        );
        assert!(ended.stderr.ends_with(warning) && ended.stderr.contains(if warning.is_empty() { "" } else { path }));
        let program = Binary::start(&arguments);
        let lines = program.lines_until("the backends are");
        let is_warned = |line: &&String| line.contains("WARN") && line.ends_with(warning.trim_end());
        assert_eq!(lines.iter().filter(is_warned).count(), usize::from(!warning.is_empty()), "{lines:#?}");
    }
}

#[test]
fn a_further_certificate_that_no_client_can_ask_for_is_warned_of() {
    let authority = Authority::new();
    let [one, two, three] = ["127.0.0.1", "127.0.0.2", "a.example"].map(|name| authority.identity(&[name]));
    let (_directory, files) = certificates(&[one.pem(), two.pem(), three.pem()]);
    let [first, second, third] = [0, 1, 2].map(|at| files[at].chain.to_str().expect("UTF-8"));
    let arguments = ["--backends", "http://127.0.0.1:9", "--tls-listen", "127.0.0.1:0"];
    let certificates = ["--tls-cert", first, "--tls-cert", second, "--tls-cert", third];
    let program = Binary::start(&[&arguments[..], &certificates].concat());
    let lines = program.lines_until(&format!("the certificate of {third} is valid until"));
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("has no DNS name")).collect();
    let effect = "only clients that can't check the ones before it get it";
    let expected = format!("the certificate of {second} has no DNS name: {effect}");
    assert!(told.len() == 1 && told[0].contains("WARN") && told[0].ends_with(&expected), "{lines:#?}");
}

#[test]
fn files_that_https_cannot_be_made_of_stop_the_start() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| written(directory.path(), name, text).to_str().expect("UTF-8").to_owned();
    let (good, other) = (authority.identity(&["a.example"]), authority.identity(&["b.example"]));
    let (certificate, key) = good.pem().split_at(good.pem().find("-----BEGIN PRIVATE KEY").expect("a key"));
    let other_key = &other.pem()[other.pem().find("-----BEGIN PRIVATE KEY").expect("a key")..];
    let (chain, whole) = (file("chain.pem", certificate), file("whole.pem", good.pem()));
    let expired = file("expired.pem", authority.expired_identity(&["a.example"]).pem());
    let mixed = file("mixed.pem", &(certificate.to_owned() + other_key));
    let (good_key, wrong_key) = (file("good.key", key), file("wrong.key", other_key));
    let (noise, empty) = (file("noise.pem", "-----BEGIN CERTIFICATE-----\nx"), file("empty.pem", ""));
    let bad = file("bad.pem", &format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{key}"));
    let tail =
        file("tail.pem", &format!("{certificate}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{key}"));
    let pipe = directory.path().join("pipe").to_str().expect("UTF-8").to_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("coreutils").success());
    let rows: [(Vec<&str>, String); 16] = [
        (vec![&whole, &whole], format!("'{whole}': given twice; leave one out")),
        (vec![&whole, "CHAIN,WRONG", "CHAIN,/no/such.key"], format!("'{chain}': given twice; leave one out")),
        (vec![&tail], format!("{tail}: its certificate 2 is cut off, damaged, or none of X.509; export it again")),
        (vec![&pipe], format!("{pipe}: it is a pipe, which would be waited for; name a file")),
        (vec!["/no/such.pem"], "/no/such.pem: cannot read it: No such file or directory".to_owned()),
        (vec![&empty], format!("{empty}: it holds no certificate; name a PEM file that does")),
        (vec![&noise], format!("{noise}: not a PEM file")),
        (vec![&bad], format!("{bad}: its certificate 1 is cut off, damaged, or none of X.509; export it again")),
        (
            vec![&chain],
            format!(
                "{chain}: it holds no private key (an encrypted one cannot be read); if another file does, write CHAIN,KEY"
            ),
        ),
        (vec![&mixed], format!("{mixed}: its private key isn't that of its first certificate")),
        (vec![&expired], format!("{expired}: its certificate 1 expired on Tue, 01 Jan 2002 00:00:00 GMT")),
        (vec![&whole, &expired], format!("{expired}: its certificate 1 expired")),
        (vec!["CHAIN,/no/such.key"], "/no/such.key: cannot read it".to_owned()),
        (vec!["CHAIN,WRONG"], format!("{wrong_key}: this private key isn't that of the first certificate in {chain}")),
        (
            vec!["a,b,c"],
            "'a,b,c': no file with a certificate and its key; write both.pem or fullchain.pem,privkey.pem".to_owned(),
        ),
        (vec![""], "'': no file with a certificate and its key".to_owned()),
    ];
    for (certificates, reason) in rows {
        for check in [&[][..], &["--check"]] {
            let mut command = Binary::command();
            command.args(["--backends", "http://a.example", "--tls-listen", "127.0.0.1:0"]).args(check);
            for certificate in &certificates {
                let certificate = certificate.replace("CHAIN", &chain).replace("WRONG", &wrong_key);
                command.args(["--tls-cert", &certificate]);
            }
            let ended = Binary::run(command);
            let expected = format!("red-tentacle: --tls-cert {reason}");
            assert!(ended.code == Some(2) && ended.stderr.starts_with(&expected), "{certificates:?}: {ended:?}");
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        }
    }
    let mut command = Binary::command();
    command.args(["--backends", "http://a.example", "--tls-listen", ":8443", "--check"]);
    command.env("RED_TENTACLE_TLS_CERT", format!("{whole};{chain},{good_key}"));
    let ended = Binary::run(command);
    assert!(ended.stdout.contains(&format!("tls-cert = {whole}; {chain},{good_key}\n")), "{ended:?}");
}

#[test]
fn flags_for_https_go_together_or_not_at_all() {
    let certificate = LOCALHOST.1.chain.to_str().expect("UTF-8");
    let rows: [(&[&str], &str); 9] = [
        (&["--tls-listen", ":8443"], "--tls-listen needs a certificate; give --tls-cert FILE or --tls-cert CHAIN,KEY"),
        (&["--tls-cert", certificate], "--tls-cert is for --tls-listen; give that too"),
        (&["--tls-client-ca", "x"], "--tls-client-ca is for --tls-listen; give that too"),
        (
            &["--tls-client-cert-header", "on"],
            "--tls-client-cert-header needs certificates of clients; give --tls-client-ca FILE",
        ),
        (
            &["--listen", "off"],
            "--listen is off, and --tls-listen too: no client could connect; give one of them an address",
        ),
        (
            &["--tls-listen", ":8080", "--tls-cert", certificate],
            "--tls-listen '0.0.0.0:8080': overlaps 0.0.0.0:8080 of --listen;",
        ),
        (
            &["--tls-listen", "127.0.0.1:8081", "--tls-cert", certificate],
            "--tls-listen '127.0.0.1:8081': overlaps 127.0.0.1:8081 of --admin-listen;",
        ),
        (
            &["--tls-listen", ":8443", "--tls-cert", certificate, "--tls-client-ca", "/no/ca"],
            "--tls-client-ca /no/ca: cannot read it: No such file",
        ),
        (&["--tls-listen", "x", "--tls-cert", certificate], "--tls-listen 'x': no port; write :8443, localhost:8443,"),
    ];
    for (arguments, reason) in rows {
        let mut command = Binary::command();
        command.args(["--backends", "http://a.example", "--check"]).args(arguments);
        let ended = Binary::run(command);
        let expected = format!("red-tentacle: {reason}");
        assert!(ended.code == Some(2) && ended.stderr.starts_with(&expected), "{arguments:?}: {ended:?}");
    }
    let backend = Fake::with(200, "good");
    let mut command = Binary::command();
    command.args(["--backends", &backend.url, "--listen", "off", "--admin-listen", "off"]);
    command.args(["--tls-listen", "127.0.0.1:0", "--tls-cert", certificate]);
    let program = Binary::spawn(command);
    let line = program.line("listens for HTTPS on ");
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")));
}

#[test]
fn curl_openssl_and_python_are_served() {
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let (directory, _) = certificates(&[]);
    let ca = written(directory.path(), "ca.pem", &LOCALHOST.0.pem());
    let (ca, port) = (ca.to_str().expect("UTF-8"), address.port());
    let run = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().expect("it runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let url = format!("https://localhost:{port}/");
    if has("curl") {
        for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let arguments = [&["-q", "-sS", "--cacert", ca, "--noproxy", "*", &url, &url], version].concat();
            let (stdout, stderr) = run("curl", &arguments);
            assert_eq!(stdout, "goodgood", "{stderr}");
        }
    }
    if has("python3") {
        let script = format!(
            "import ssl, http.client as h\nc = ssl.create_default_context(cafile='{ca}')\n\
             k = h.HTTPSConnection('localhost', {port}, context=c)\n\
             for _ in range(2):\n k.request('POST', '/', b'x' * 100000); print(k.getresponse().read().decode())\n"
        );
        let (stdout, stderr) = run("python3", &["-c", &script]);
        assert_eq!(stdout, "good\ngood\n", "{stderr}");
    }
    if has("openssl") {
        let connect = format!("localhost:{port}");
        for (version, is_spoken) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_1", false)] {
            let (stdout, stderr) =
                run("openssl", &["s_client", "-connect", &connect, "-CAfile", ca, "-verify_return_error", version]);
            assert_eq!(!stdout.contains("Cipher is (NONE)"), is_spoken, "{version}: {stdout} {stderr}");
        }
    }
}

/// Clients of TLS 1.2 could have the proxy compute without end.
#[test]
fn renegotiation_is_refused_and_costs_no_other_client_anything() {
    if !has("openssl") {
        return;
    }
    let backend = Fake::with(200, "good");
    let (_proxy, address) = proxy(&backend.url);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-tls1_2", "-connect", &address.to_string()]);
    let piped = std::process::Stdio::piped;
    let mut asking = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().expect("it runs");
    // Held: its end would be the end of the program.
    let mut stdin = asking.stdin.take().expect("a pipe");
    stdin.write_all(b"R\n").expect("room");
    let mut told = String::new();
    asking.stderr.take().expect("a pipe").read_to_string(&mut told).expect("text");
    drop(stdin);
    let _ = asking.wait();
    assert!(told.contains("RENEGOTIATING") && told.contains("no renegotiation"), "{told}");
    assert!(last(&mut ordinary(address)).is_ok_and(|reply| reply.ends_with("good")));
}
