//! How it ends: what is under way is finished, for a while; nothing new is begun; nothing is left behind.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    BRIEFLY, Binary, Client, Connection, Fake, Framing, Gate, Holding, Proxy, Raw, SOON, eventually, fill, get,
    is_alone, many, threads_max, threads_named,
};

const LONG: Duration = Duration::from_secs(3600);
const ASK: &str = "GET /held HTTP/1.1\r\nHost: a\r\n\r\n";
const SWITCH: &str = "GET /held HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// Waits until nothing listens there any more: the end has begun.
fn eventually_refused(address: SocketAddr) {
    eventually("clients are refused", || TcpStream::connect(address).is_err());
}

/// A backend whose answer has a beginning and, once the gate is open, an end.
fn streaming(gate: &Gate) -> Raw {
    let gate = gate.clone();
    Raw::serving(move |mut connection: Connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
        gate.pass();
        connection.send("4\r\n-end\r\n0\r\n\r\n");
        connection.wait_for_hang_up();
    })
}

/// A client that has got the beginning of such an answer.
fn client_of_stream(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send_request("GET", "/stream", &[], None);
    assert_eq!(client.reply_to_head().status, 200);
    assert_eq!(client.chunk().as_deref(), Some(&b"begin"[..]));
    client
}

#[test]
fn a_stream_in_flight_is_finished_while_no_other_client_is_let_in() {
    let gate = Gate::new();
    let backend = streaming(&gate);
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.grace_period = LONG);
    let mut client = client_of_stream(proxy.address);
    proxy.stopper().stop();
    eventually_refused(proxy.address);
    assert!(!proxy.has_ended());
    gate.open();
    assert_eq!(client.chunk().as_deref(), Some(&b"-end"[..]));
    assert_eq!(client.chunk().as_deref(), Some(&b""[..]), "the body is whole");
    assert!(client.is_closed());
    proxy.stop();
}

#[test]
fn a_reply_that_begins_during_the_end_says_close() {
    let gate = Gate::new();
    let backend = Fake::behind(&gate, 200, "late");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.grace_period = LONG);
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    backend.next();
    proxy.stopper().stop();
    eventually_refused(proxy.address);
    gate.open();
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.value("connection")), ("late", Some("close")));
    assert!(client.is_closed());
    proxy.stop();
}

#[test]
fn idle_connections_are_closed_without_a_wait() {
    let gate = Gate::new();
    let backend = streaming(&gate);
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.grace_period = LONG);
    let mut streaming = client_of_stream(proxy.address);
    let mut silent = Client::connect(proxy.address);
    let mut kept = Client::connect(proxy.admin);
    kept.send_request("GET", "/", &[], None);
    assert_eq!((kept.reply().status, proxy.has_ended()), (200, false));
    proxy.stopper().stop();
    // The stream keeps the proxy from ending, so nothing else can close them before their deadlines of 10 and 60 seconds.
    for client in [&silent, &kept] {
        client.stream.set_read_timeout(Some(SOON / 4)).expect("a timeout");
    }
    assert!(kept.is_closed() && silent.is_closed());
    assert!(!proxy.has_ended());
    gate.open();
    assert_eq!(streaming.chunk().as_deref(), Some(&b"-end"[..]));
    proxy.stop();
}

#[test]
fn a_client_that_connected_just_before_the_end_may_still_ask_once() {
    // `tiny_http` may leave the fifth of eight connections at once until another one ends.
    let good = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::with(std::slice::from_ref(&good.url), |config| config.grace_period = LONG);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(proxy.address)).collect();
    // Clients are accepted in their order: those before this one have been.
    assert_eq!(proxy.get("/").text(), "good");
    proxy.stopper().stop();
    eventually_refused(proxy.address);
    for client in &mut clients {
        client.send_request("GET", "/", &[], None);
    }
    for client in &mut clients {
        let reply = client.reply();
        assert_eq!((reply.text().as_str(), reply.value("connection")), ("good", Some("close")));
    }
    drop(clients);
    proxy.stop();
}

#[test]
fn a_client_that_sends_on_after_its_refusal_delays_the_end_by_a_moment_only() {
    let good = Fake::with(200, "good");
    let proxy = Proxy::with(std::slice::from_ref(&good.url), |config| {
        (config.grace_period, config.max_body) = (LONG, 0);
    });
    let refused = || {
        let mut client = Client::connect(proxy.address);
        client.send_request("POST", "/", &["Content-Length: 1000000000"], None);
        assert_eq!(client.reply().status, 413);
        client
    };
    let (mut sending, _silent, block) = (refused(), refused(), vec![b'x'; 64 * 1024]);
    let stop = Instant::now();
    proxy.stopper().stop();
    while !proxy.has_ended() && stop.elapsed() < SOON {
        let _ = sending.stream.write_all(&block);
    }
    assert!(stop.elapsed() < SOON / 5, "{:?}", stop.elapsed());
    proxy.stop();
}

#[test]
fn once_the_grace_period_is_over_a_stream_is_cut() {
    let backend = streaming(&Gate::new());
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| config.grace_period = BRIEFLY);
    let mut client = client_of_stream(proxy.address);
    let mut waiting = Client::connect(proxy.address);
    waiting.send("GET /half HTTP/1.1\r\nHo");
    proxy.stop();
    assert_eq!(client.chunk(), None, "no last chunk: nobody takes it for whole");
    assert!(waiting.is_closed());
}

#[test]
fn once_the_grace_period_is_over_a_hanging_race_is_abandoned() {
    let backend = Raw::hanging();
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
        config.grace_period = BRIEFLY;
        (config.timeout, config.idle_timeout) = (LONG, LONG);
    });
    let mut client = Client::connect(proxy.address);
    client.send_request("POST", "/", &[], Some(b"x"));
    backend.next();
    proxy.stop();
    backend.expect_hang_up();
    assert!(client.is_closed());
}

/// A proxy that has just answered one client by another backend, while this one has the request and says nothing yet. Its
/// losers linger for long. The backend answers when the gate is open.
fn proxy_with_loser(method: &str, grace_period: Duration, gate: &Gate) -> (Proxy, Raw) {
    let (loser, winner) = (lingering(gate), Gate::new());
    let quick = Fake::behind(&winner, 200, "won");
    let proxy = Proxy::with(&[loser.url.clone(), quick.url.clone()], |config| {
        (config.linger, config.linger_unsafe) = (LONG, LONG);
        // Else a silent loser would end by itself.
        (config.timeout, config.idle_timeout) = (LONG, LONG);
        config.grace_period = grace_period;
    });
    let mut client = Client::connect(proxy.address);
    client.send_request(method, "/", &[], None);
    loser.next();
    winner.open();
    assert_eq!(client.reply().text(), "won");
    (proxy, loser)
}

/// A backend that answers late, and tells at once when it is hung up on.
fn lingering(gate: &Gate) -> Raw {
    let gate = gate.clone();
    Raw::serving(move |mut connection: Connection| {
        connection.request();
        let mut writing = connection.stream.try_clone().expect("a socket");
        let gate = gate.clone();
        thread::spawn(move || {
            gate.pass();
            let _ = writing.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        });
        connection.wait_for_hang_up();
    })
}

#[test]
fn a_loser_that_may_have_changed_something_is_waited_for() {
    let gate = Gate::new();
    let (proxy, loser) = proxy_with_loser("POST", LONG, &gate);
    proxy.stopper().stop();
    eventually_refused(proxy.address);
    assert!(!loser.is_hung_up_on_within(BRIEFLY) && !proxy.has_ended());
    gate.open();
    proxy.stop();
}

#[test]
fn a_loser_that_changed_nothing_is_not_waited_for() {
    let gate = Gate::new();
    let (proxy, loser) = proxy_with_loser("GET", LONG, &gate);
    assert!(!loser.was_hung_up_on(), "it lingers");
    proxy.stop();
    loser.expect_hang_up();
}

#[test]
fn once_the_grace_period_is_over_no_loser_is_waited_for() {
    let gate = Gate::new();
    let (proxy, loser) = proxy_with_loser("POST", BRIEFLY, &gate);
    assert!(!loser.was_hung_up_on(), "it lingers");
    proxy.stop();
    loser.expect_hang_up();
}

#[test]
fn the_program_finishes_what_is_under_way_on_a_signal_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let gate = Gate::new();
        let backend = streaming(&gate);
        let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "1h"]);
        let (address, admin) = program.addresses();
        let mut client = client_of_stream(address);
        program.signal(signal);
        program.line("stopping: no more clients are accepted");
        eventually_refused(address);
        assert!(program.child.try_wait().expect("a child").is_none());
        gate.open();
        assert_eq!(client.chunk().as_deref(), Some(&b"-end"[..]), "{signal}");
        assert_eq!(client.chunk().as_deref(), Some(&b""[..]), "{signal}");
        assert_eq!(program.wait().code(), Some(0), "{signal}");
        eventually_refused(admin);
        let last = program.lines_until("stopped");
        assert!(last.iter().any(|line| line.contains("GET /stream 200")), "{last:#?}");
    }
}

#[test]
fn the_program_cuts_what_is_under_way_when_the_grace_period_is_over() {
    let backend = streaming(&Gate::new());
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "100ms"]);
    let mut client = client_of_stream(program.addresses().0);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(client.chunk(), None);
    let last = program.lines_until("stopped");
    assert!(last.iter().any(|line| line.contains("the grace period is over: cutting ")), "{last:#?}");
    assert!(last.iter().any(|line| line.contains("GET /stream 200") && line.contains("(cut, since ")), "{last:#?}");
}

/// They go on for the grace period; what ends meanwhile ends whole, and what doesn't is cut.
#[test]
fn hundreds_of_streams_go_on_for_the_grace_period_and_then_are_cut() {
    const GRACE: Duration = Duration::from_secs(3);
    let begin = format!("{}5\r\nbegin\r\n", Framing::Chunked.head(0));
    let backend = Holding::beginning(begin);
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "3s"]);
    let address = program.address();
    let mut streams = backend.open(many(300), || Client::connect(address), ASK, 200);
    for stream in &mut streams {
        assert_eq!(stream.client.chunk().as_deref(), Some(&b"begin"[..]));
    }
    let told = Instant::now();
    program.signal("TERM");
    program.line("stopping: no more clients are accepted");
    eventually_refused(address);
    for stream in &mut streams {
        stream.backend.send("2\r\non\r\n");
        assert_eq!(stream.client.chunk().as_deref(), Some(&b"on"[..]), "it goes on");
    }
    let ending = streams.split_off(streams.len() * 2 / 3);
    for mut stream in ending {
        stream.backend.send("0\r\n\r\n");
        assert_eq!(stream.client.chunk().as_deref(), Some(&b""[..]), "it ends whole");
        assert!(stream.client.is_closed());
    }
    let threads = program.threads();
    assert!(told.elapsed() < GRACE && program.child.try_wait().expect("a child").is_none(), "{:?}", told.elapsed());
    assert_eq!(program.wait().code(), Some(0));
    let took = told.elapsed();
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(2), "{took:?}");
    let cut = streams.len();
    for mut stream in streams {
        assert_eq!(stream.client.chunk(), None, "no last chunk: nobody takes it for whole");
        stream.backend.wait_for_hang_up();
        backend.raw.expect_hang_up();
    }
    let lines = program.lines_until("] stopped");
    let told_of = lines.iter().filter(|line| line.contains(" (cut, since the proxy was stopped)")).count();
    assert_eq!(told_of, cut, "{lines:#?}");
    assert!(threads <= threads_max(), "{threads} threads");
}

/// Was feared: what can't be written would be waited for.
#[test]
fn answers_and_tunnels_that_are_not_read_do_not_delay_the_end() {
    const GRACE: Duration = Duration::from_secs(1);
    let begin = format!("{}begin", Framing::Sized.head(1 << 30));
    let (answers, tunnels) = (Holding::beginning(begin), Holding::beginning(SWITCHED));
    let program = |url: &str| Binary::start(&["--backends", url, "--grace-period", "1s", "--idle-timeout", "1h"]);
    for (backend, request, status) in [(answers, ASK, 200), (tunnels, SWITCH, 101)] {
        let mut program = program(&backend.url);
        let address = program.address();
        let held = backend.open(many(100), || Client::cramped(address), request, status);
        let sockets: Vec<&TcpStream> = held.iter().map(|held| &held.backend.stream).collect();
        // More than the kernel takes on the way, however much room it gives a socket.
        let bytes = vec![b'x'; 8 << 20];
        let sent = fill(&sockets, &bytes);
        assert!(sent.iter().all(|sent| *sent < bytes.len()), "they aren't full: {sent:?}");
        let told = Instant::now();
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0), "{status}");
        let took = told.elapsed();
        assert!(took >= GRACE && took < GRACE + Duration::from_secs(2), "{status}: {took:?}");
        let lines = program.lines_until("] stopped");
        let cut = lines.iter().filter(|line| line.contains(" (cut, since the proxy was stopped)")).count();
        assert_eq!(cut, held.len(), "{status}: {lines:#?}");
    }
}

/// Clients whose requests wait for this program's only backend.
fn waiting_clients(address: SocketAddr, backend: &Raw, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send_request("GET", "/waits", &[], None);
        backend.next();
    }
    clients
}

/// Was seen as: 200 requests that waited for a backend that didn't answer took 13 threads and 6.7 MiB before SIGTERM, 209 threads and
/// 40 MiB after it.
#[test]
fn requests_that_wait_take_no_thread_when_the_program_is_to_stop() {
    const CLIENTS: usize = 200;
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Raw::serving(move |mut connection: Connection| {
        connection.request();
        held.pass();
        connection.reply(200, "late");
        connection.wait_for_hang_up();
    });
    let args = ["--backends", &backend.url, "--grace-period", "1h", "--timeout", "1h"];
    let mut program = Binary::start(&args);
    let (address, admin) = program.addresses();
    let mut clients = waiting_clients(address, &backend, CLIENTS);
    let before = program.usage().threads;
    program.signal("TERM");
    program.line("stopping");
    eventually_refused(address);
    // By then every connection has been told.
    for _ in 0..500 {
        assert_eq!(get(admin, "/readyz").status, 503);
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.reply().text(), "late");
    }
    let after = program.usage().threads;
    assert!(after <= before, "{before} threads before, {after} after");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn every_request_that_is_abandoned_at_the_end_of_the_grace_period_has_its_line() {
    const CLIENTS: usize = 50;
    let backend = Raw::hanging();
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "100ms", "--timeout", "1h"]);
    let clients = waiting_clients(program.address(), &backend, CLIENTS);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.lines_until("stopped");
    let abandoned = lines.iter().filter(|line| line.contains("GET /waits 499")).count();
    assert_eq!(abandoned, CLIENTS, "{lines:#?}");
    drop(clients);
}

/// Was seen as: of 100 requests whose bodies were in files, 21 had a line.
#[test]
fn every_upload_that_is_cut_at_the_end_of_the_grace_period_has_its_line() {
    const CLIENTS: usize = 40;
    let backend = Raw::cramped(|mut connection| {
        connection.head();
        connection.wait_for_close();
    });
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "300ms", "--timeout", "1h"]);
    let address = program.address();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send_request("POST", "/upload", &[], Some(&vec![0; 1 << 20]));
    }
    eventually("every upload has begun", || backend.accepted() == CLIENTS);
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.lines_until("stopped");
    assert_eq!(lines.iter().filter(|line| line.contains("POST /upload ")).count(), CLIENTS, "{lines:#?}");
}

#[test]
fn a_stream_that_is_cut_at_the_end_of_the_grace_period_is_no_fault_of_its_backend() {
    let backend = streaming(&Gate::new());
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "100ms"]);
    let mut clients: Vec<Client> = Vec::new();
    let address = program.address();
    clients.extend((0..20).map(|_| client_of_stream(address)));
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    let lines = program.lines_until("] stopped");
    let cut: Vec<_> = lines.iter().filter(|line| line.contains("GET /stream 200")).collect();
    assert!(
        cut.len() == 20 && cut.iter().all(|line| line.contains("(cut, since the proxy was stopped)")),
        "{lines:#?}"
    );
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let backend = streaming(&Gate::new());
    let mut program = Binary::start(&["--backends", &backend.url, "--grace-period", "1h"]);
    let mut client = client_of_stream(program.addresses().0);
    program.signal("TERM");
    program.line("stopping");
    program.signal("INT");
    assert_eq!(program.wait().code(), Some(1));
    assert_eq!(client.chunk(), None);
}

/// All tests share a process and its threads, so this one runs itself once more in one of its own.
#[test]
fn nothing_is_left_of_a_server_that_has_run() {
    if !is_alone("drain::nothing_is_left_of_a_server_that_has_run") {
        return;
    }
    let (good, hanging) = (Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"), Raw::hanging());
    let sockets_before = sockets();
    let proxy = Proxy::with(&[good.url.clone(), hanging.url.clone()], |config| config.linger_unsafe = BRIEFLY);
    let clients: Vec<Client> = (0..8).map(|_| Client::connect(proxy.address)).collect();
    for mut client in clients {
        client.send_request("POST", "/", &[], Some(&vec![b'x'; 100_000]));
        assert_eq!(client.reply().text(), "good");
    }
    let mut abandoned = Client::connect(proxy.address);
    assert_eq!(proxy.update(std::slice::from_ref(&hanging.url)).status, 200);
    abandoned.send_request("GET", "/", &[], None);
    let count = |name| threads_named("self", name);
    assert!(count("disk") > 0 && count("worker") > 0 && count("poller") > 0, "it runs");
    drop(abandoned);
    proxy.stop();
    for name in ["disk", "worker", "admin", "poller"] {
        eventually(&format!("every {name} ends"), || count(name) == 0);
    }
    eventually("every socket of the proxy's is closed", || sockets() <= sockets_before);
}

/// Open sockets and spool files of this process.
fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    files.filter(|file| std::fs::read_link(file.path()).is_ok()).count()
}
