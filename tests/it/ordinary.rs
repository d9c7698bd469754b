//! Ordinary clients: curl, Python's http.client and urllib, wget, Perl's HTTP::Tiny, ab. Where one isn't installed its
//! tests say so on standard error and pass; with `TENTACLE_TEST_CLIENTS` set, as in CI, curl and Python must be there.

use std::io::Write;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::harness::{Fake, Proxy, ended, has, output, pattern, tell_skipped, text};

const MIB: usize = 1024 * 1024;

fn curl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--show-error", "--max-time", "60"]).args(arguments);
    output(command, input)
}

/// A proxy before a backend that answers with the request's body or, if it has none, with its target; `/no` is 404.
fn echoing() -> (Proxy, Fake, String) {
    let backend = Fake::answering(|request| match request.target.as_str() {
        "/no" => Fake::reply(404, "no"),
        target if request.body.is_empty() => Fake::reply(200, target),
        _ => Fake::reply(200, request.body.clone()),
    });
    let proxy = Proxy::before(std::slice::from_ref(&backend.url));
    let url = format!("http://{}", proxy.address);
    (proxy, backend, url)
}

#[test]
fn curl_gets_in_both_versions() {
    if !has("curl") {
        return;
    }
    let (_proxy, backend, url) = echoing();
    for version in ["--http1.0", "--http1.1"] {
        let reply = text(curl(&[version, "--include", &format!("{url}/x?y=%20|")], b""));
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\n/x?y=%20|"), "{version}: {reply}");
        let seen = backend.next();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/x?y=%20|"), "{version}");
        assert!(seen.values("user-agent")[0].starts_with("curl/"), "{version}");
    }
}

#[test]
fn curl_uses_its_connection_again() {
    if !has("curl") {
        return;
    }
    let (_proxy, _backend, url) = echoing();
    let (first, second) = (format!("{url}/1"), format!("{url}/2"));
    let connects = text(curl(&["--write-out", " %{num_connects}\n", &first, &second], b""));
    assert_eq!(connects, "/1 1\n/2 0\n");
    let connects = text(curl(&["--http1.0", "--write-out", " %{num_connects}\n", &first, &second], b""));
    assert_eq!(connects, "/1 1\n/2 1\n", "HTTP/1.0 ends it");
}

#[test]
fn curl_asks_for_a_head() {
    if !has("curl") {
        return;
    }
    let (_proxy, backend, url) = echoing();
    let head = text(curl(&["--head", &format!("{url}/1234567")], b"")).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 8\r\n"), "{head}");
    assert_eq!(backend.next().method, "HEAD");
}

#[test]
fn curl_uploads_what_it_does_not_know_the_length_of() {
    if !has("curl") {
        return;
    }
    let (_proxy, backend, url) = echoing();
    let body = pattern(MIB + 1);
    let echo = curl(&["--upload-file", "-", &format!("{url}/up")], &body);
    assert!(echo == body, "{} bytes", echo.len());
    let seen = backend.next();
    assert_eq!((seen.method.as_str(), seen.values("content-length")), ("PUT", vec![body.len().to_string().as_str()]));
    assert!(seen.values("transfer-encoding").is_empty());
}

#[test]
fn curl_is_told_to_go_on_with_its_body() {
    if !has("curl") {
        return;
    }
    let (_proxy, backend, url) = echoing();
    // Without the word it would wait for a minute, and be killed before.
    let arguments = ["--expect100-timeout", "70", "--header", "Expect: 100-continue", "--data-binary", "@-"];
    let echo = curl(&[&arguments[..], &[url.as_str()]].concat(), b"the body");
    assert_eq!(echo, b"the body");
    assert!(backend.next().values("expect").is_empty());
}

#[test]
fn curl_uploads_and_downloads_ten_mebibytes() {
    if !has("curl") {
        return;
    }
    let (_proxy, _backend, url) = echoing();
    let body = pattern(10 * MIB);
    for version in ["--http1.0", "--http1.1"] {
        let echo = curl(&[version, "--data-binary", "@-", &format!("{url}/up")], &body);
        assert!(echo == body, "{version}: {} bytes", echo.len());
    }
}

fn python(script: &str, address: &str) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", script, address]);
    text(output(command, b""))
}

#[test]
fn pythons_http_client_keeps_its_connection_and_sends_chunks() {
    if !has("python3") {
        return;
    }
    let (proxy, backend, _url) = echoing();
    let script = r#"
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
connection.connect()
port = connection.sock.getsockname()[1]
def ask(method, target, body=None, **more):
    connection.request(method, target, body, **more)
    reply = connection.getresponse()
    assert connection.sock.getsockname()[1] == port, "another connection"
    return reply, reply.read()
for target in ["/1", "/2?a=b"]:
    reply, body = ask("GET", target)
    assert (reply.status, reply.version, body) == (200, 11, target.encode()), body
reply, body = ask("HEAD", "/1234567")
assert (reply.status, reply.getheader("content-length"), body) == (200, "8", b"")
pieces = [bytes([n]) * 5000 for n in range(100)]
reply, body = ask("POST", "/up", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
assert body == b"".join(pieces)
reply, body = ask("DELETE", "/no")
assert (reply.status, body) == (502, body) and b"404" in body
print("good")
"#;
    assert_eq!(python(script, &proxy.address.to_string()), "good\n");
    let seen: Vec<String> = (0..5).map(|_| backend.next().method).collect();
    assert_eq!(seen, ["GET", "GET", "HEAD", "POST", "DELETE"]);
}

#[test]
fn pythons_urllib_reads_replies_and_errors() {
    if !has("python3") {
        return;
    }
    let (proxy, _backend, _url) = echoing();
    let script = r#"
import sys, urllib.error, urllib.request
url = "http://" + sys.argv[1]
with urllib.request.urlopen(url + "/x", timeout=60) as reply:
    assert (reply.status, reply.read()) == (200, b"/x")
body = bytes(range(256)) * 40960
with urllib.request.urlopen(url + "/up", body, timeout=60) as reply:
    assert reply.read() == body
try:
    urllib.request.urlopen(url + "/no", timeout=60)
    raise SystemExit("no error")
except urllib.error.HTTPError as error:
    assert error.code == 502 and b"404" in error.read()
print("good")
"#;
    assert_eq!(python(script, &proxy.address.to_string()), "good\n");
}

/// A proxy that takes bodies of one kibibyte, and a file with a body that is far too long.
fn refusing() -> (Proxy, Fake, NamedTempFile) {
    let backend = Fake::with(200, "good");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.max_body = 1024);
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(&pattern(20 * MIB)).expect("written");
    (proxy, backend, file)
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// Was seen as: a broken pipe in place of the 413.
#[test]
fn pythons_clients_read_why_a_body_is_refused() {
    if !has("python3") {
        return;
    }
    let (proxy, backend, _file) = refusing();
    let script = r#"
import http.client, sys, urllib.error, urllib.request
body = bytes(20 << 20)
def pieces():
    for at in range(0, len(body), 65536):
        yield body[at:at + 65536]
for sent, more in [(body, {}), (pieces(), {"encode_chunked": True, "headers": {"Transfer-Encoding": "chunked"}})]:
    connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
    connection.request("POST", "/", sent, **more)
    reply = connection.getresponse()
    assert reply.status == 413 and b"--max-body" in reply.read()
try:
    urllib.request.urlopen("http://" + sys.argv[1], body, timeout=60)
    raise SystemExit("no error")
except urllib.error.HTTPError as error:
    assert error.code == 413 and b"--max-body" in error.read()
print("good")
"#;
    assert_eq!(python(script, &proxy.address.to_string()), "good\n");
    assert!(backend.received.is_empty());
}

#[test]
fn curl_reads_why_a_body_is_refused() {
    if !has("curl") {
        return;
    }
    let (proxy, _backend, file) = refusing();
    let (data, url) = (format!("@{}", path(&file)), format!("http://{}", proxy.address));
    for more in [&["--header", "Expect:"][..], &["--http1.0"], &["--header", "Transfer-Encoding: chunked"]] {
        let reply = text(curl(&[&["--include", "--data-binary", &data, &url], more].concat(), b""));
        assert!(reply.contains("HTTP/1.1 413 ") && reply.contains("--max-body"), "{more:?}: {reply}");
    }
}

/// Was seen as: "Empty reply from server".
#[test]
fn curl_tells_that_http_2_is_not_spoken() {
    if !has("curl") {
        return;
    }
    if !text(curl(&["--version"], b"")).contains("HTTP2") {
        return tell_skipped("this curl doesn't speak HTTP/2");
    }
    let (proxy, _backend, file) = refusing();
    let (data, url) = (format!("@{}", path(&file)), format!("http://{}/", proxy.address));
    for more in [&[][..], &["--head"], &["--data", "short"], &["--data-binary", &data]] {
        let reply = text(curl(&[&["--http2-prior-knowledge", "--include", &url], more].concat(), b""));
        assert!(reply.starts_with("HTTP/2 505"), "{more:?}: {reply}");
        let is_told = reply.ends_with("Only HTTP/1.0 and HTTP/1.1 are spoken here, not HTTP/2\n");
        assert!(is_told || more == ["--head"], "{more:?}: {reply}");
    }
}

/// Was seen as: "Connection reset by peer", and three more tries.
#[test]
fn wget_reads_that_a_body_is_refused() {
    if !has("wget") {
        return;
    }
    let (proxy, _backend, file) = refusing();
    let mut command = Command::new("wget");
    command.args([
        "--no-config",
        "--no-proxy",
        "--tries=1",
        "--timeout=60",
        "--content-on-error",
        "--output-document=-",
    ]);
    command.arg(format!("--post-file={}", path(&file))).arg(format!("http://{}", proxy.address));
    let (status, stdout, stderr) = ended(command, b"");
    // 8: the server answered with an error.
    assert_eq!(status.code(), Some(8), "{stderr}");
    assert!(stderr.contains("413") && text(stdout).contains("--max-body"), "{stderr}");
}

#[test]
fn perls_http_tiny_reads_why_a_body_is_refused() {
    if !has("perl") {
        return;
    }
    let (proxy, _backend, _file) = refusing();
    let script = r#"
use HTTP::Tiny;
my $left = 320;
my $pieces = sub { $left-- > 0 ? "x" x 65536 : undef };
for my $body ("x" x (20 << 20), $pieces) {
    my $reply = HTTP::Tiny->new(timeout => 60)->post("http://$ARGV[0]/", {content => $body});
    print "$reply->{status} $reply->{content}";
}
"#;
    let mut command = Command::new("perl");
    command.args(["-e", script, &proxy.address.to_string()]);
    assert_eq!(text(output(command, b"")), "413 The body is longer than allowed (--max-body)\n".repeat(2));
}

#[test]
fn ab_keeps_its_connections() {
    if !has("ab") {
        return;
    }
    let (_proxy, _backend, url) = echoing();
    let mut command = Command::new("ab");
    command.args(["-k", "-q", "-n", "400", "-c", "8", &format!("{url}/x")]);
    let report = text(output(command, b""));
    let number = |name: &str| report.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    let numbers = ["Complete requests:", "Failed requests:", "Keep-Alive requests:"].map(number);
    assert_eq!(numbers, [Some(400), Some(0), Some(400)], "{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
}
