//! Thousands of clients that say nothing, or nearly nothing.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crossbeam_channel::never;
use red_tentacle::config::AdminToken;
use red_tentacle::downstream::Timeouts;

use crate::clients::REFUSED_EARLY;
use crate::harness::{
    BRIEFLY, Binary, Client, Fake, Gate, HURRIED, Proxy, Raw, SOON, descriptors, eventually, patiently, pattern,
};

/// What a client that waits may cost in memory.
const BYTES_MAX: usize = 8 * 1024;
/// What one that has asked and is silent may cost, however long its heads may be.
const IDLE_BYTES_MAX: usize = 1024;

/// The program takes a quarter of its descriptors for clients, and other tests need some of ours.
fn clients_max() -> usize {
    (descriptors() / 5).min(10_000)
}

#[test]
fn thousands_of_idle_and_dripping_clients_cost_little_and_delay_no_other_client() {
    let count = clients_max();
    assert!(count >= 150, "raise the limit of open files: ulimit -n");
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let program = Binary::start(&["--backends", &backend.url, "--max-head", "256KiB"]);
    let address = program.address();
    let idle = || {
        let mut client = Client::connect(address);
        client.send_request("GET", "/", &[], None);
        assert_eq!(client.reply().text(), "good");
        client
    };
    let dripping = || {
        let mut client = Client::connect(address);
        client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Le");
        client
    };
    // What the first ones need is needed once.
    let mut clients: Vec<Client> = (0..count / 10).map(|_| idle()).collect();
    let (before, threads) = (program.resident_bytes(), program.threads());
    let more = count - clients.len();
    // Those that have asked may be silent for a minute, a head may take ten seconds: so it comes last.
    clients.extend((0..more * 3 / 4).map(|_| idle()));
    let silent = clients.len();
    let each_idle = program.resident_bytes().saturating_sub(before) / (more * 3 / 4);
    println!("{each_idle} bytes for each idle client");
    assert!(each_idle < IDLE_BYTES_MAX, "{each_idle} bytes for each idle client");
    clients.extend((0..more / 4).map(|_| dripping()));
    for client in &mut clients[silent..] {
        // A server that is slower than ten seconds has closed it by now.
        let _ = client.stream.write_all(b"n");
    }
    let each = program.resident_bytes().saturating_sub(before) / more;
    let asked = Instant::now();
    assert_eq!(Client::connect_and_get(address).expect("a reply").text(), "good");
    let took = asked.elapsed();
    println!("{count} clients: {each} bytes each, {} threads, a request takes {took:?}", program.threads());
    assert!(program.descriptors() >= silent, "only {} descriptors are open", program.descriptors());
    assert!(each < BYTES_MAX, "{each} bytes for each client");
    assert!(program.threads() <= threads.max(16), "{} threads, {threads} before", program.threads());
    assert!(took < SOON / 10, "a request takes {took:?}");
}

/// Was seen as: a host that opened as many connections as there may be, and said nothing, kept all others out.
#[test]
fn a_new_client_takes_the_place_of_the_one_that_has_been_silent_for_longest() {
    let gate = Gate::new();
    let held = gate.clone();
    let backend = Fake::answering(move |request| {
        if request.target == "/held" {
            held.pass();
        }
        Fake::reply(200, request.target.clone())
    });
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        config.max_connections = NonZeroUsize::new(4);
    });
    let mut dripping = Client::connect(proxy.address);
    dripping.send("GET /dripping HTTP/1.1\r\nHo");
    let mut served = Client::connect(proxy.address);
    served.send_request("GET", "/held", &[], None);
    assert_eq!(backend.next().target, "/held");
    let ask = |client: &mut Client, target: &str| {
        client.send_request("GET", target, &[], None);
        assert_eq!(client.reply().text(), target);
    };
    let mut first = Client::connect(proxy.address);
    ask(&mut first, "/first");
    let mut second = Client::connect(proxy.address);
    ask(&mut second, "/second");
    let mut new = Client::connect(proxy.address);
    ask(&mut new, "/new");
    assert!(first.is_closed(), "it has been silent for longest");
    ask(&mut second, "/second");
    dripping.send("st: a\r\n\r\n");
    assert_eq!(dripping.reply().text(), "/dripping");
    gate.open();
    assert_eq!(served.reply().text(), "/held");
    ask(&mut new, "/new");
}

#[test]
fn clients_that_never_say_a_word_keep_no_other_client_out() {
    const MOST: usize = 200;
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        config.max_connections = NonZeroUsize::new(MOST);
    });
    let mut silent: Vec<Client> = (0..2 * MOST).map(|_| Client::connect(proxy.address)).collect();
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    // Well before the ten seconds in which they would have to send a head.
    assert!(begun.elapsed() < SOON / 4, "{:?}", begun.elapsed());
    assert!(silent[0].is_closed());
}

/// A client that was told to go and goes on sending has nothing more to get.
#[test]
fn clients_that_send_on_after_their_refusal_keep_no_other_client_out() {
    const MOST: usize = 4;
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::with(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        (config.max_connections, config.max_body) = (NonZeroUsize::new(MOST), 0);
    });
    let mut refused: Vec<Client> = (0..MOST).map(|_| Client::connect(proxy.address)).collect();
    for client in &mut refused {
        client.send_request("POST", "/", &["Content-Length: 1000000000"], None);
        assert_eq!(client.reply().status, 413);
    }
    let begun = Instant::now();
    let asking = std::thread::spawn(move || Client::connect_and_get(proxy.address).map(|reply| reply.text()));
    while !asking.is_finished() && begun.elapsed() < SOON {
        for client in &mut refused {
            let _ = client.stream.write_all(b"xxxx");
        }
    }
    assert_eq!(asking.join().expect("no panic").as_deref(), Some("good"));
    assert!(begun.elapsed() < SOON / 4, "{:?}", begun.elapsed());
}

/// A client that sends something every now and then.
struct Dripping {
    label: String,
    client: Client,
    /// What it sends each time.
    drip: &'static [u8],
    ends: Ends,
    /// When it ended.
    ended: Option<Duration>,
}

/// How and when a client that drips is to end.
#[derive(Clone, Copy)]
enum Ends {
    /// It is told that it is too slow, after this time at least.
    Told(Duration),
    /// It was told long ago to go, and is cut off after this time at least.
    Cut(Duration),
}

impl Dripping {
    fn new(label: &str, port: SocketAddr, begin: &str, drip: &'static [u8], ends: Ends) -> Dripping {
        let mut client = Client::connect(port);
        client.send(begin);
        Dripping { label: label.to_owned(), client, drip, ends, ended: None }
    }

    /// Sends a drip, unless it has ended by now.
    fn go_on(&mut self, begun: Instant) {
        if self.ended.is_some() {
            return;
        }
        let mut stream = &self.client.stream;
        let is_cut = stream.write_all(self.drip).is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        let has_ended = match self.ends {
            Ends::Told(..) => stream.peek(&mut [0]).is_ok(),
            Ends::Cut(_) => is_cut,
        };
        self.ended = has_ended.then(|| begun.elapsed());
    }

    /// It has ended as it is to, and when it is to.
    fn expect_end(self) {
        let Dripping { label, mut client, ends, ended, .. } = self;
        let ended = ended.unwrap_or_else(|| panic!("{label}: it goes on for ever"));
        let (Ends::Told(least) | Ends::Cut(least)) = ends;
        // The proxy's time may have begun a little before ours.
        assert!(ended >= least * 9 / 10 && ended < SOON / 2, "{label}: {ended:?}");
        if let Ends::Told(..) = ends {
            client.stream.set_nonblocking(false).expect("a socket");
            assert_eq!(client.reply().status, 408, "{label}");
        }
    }
}

/// A head and the start of a body have ten seconds in all, an update's form has five, and a client that was told to go fifteen:
/// here a fifth of it, and the rows wait beside each other.
#[test]
fn every_wait_for_a_client_ends_in_its_time_however_often_bytes_come() {
    const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy = Proxy::hurried(std::slice::from_ref(&backend.url), |config| {
        patiently(config);
        config.admin_token = Some(AdminToken::new("s3cret").expect("a token"));
        config.max_body = 1 << 16;
    });
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    // At 6 KB a second it would be allowed to go on as another body.
    let form = "POST /update-backends HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n";
    let told = Ends::Told(HURRIED.head);
    let rows: [(&str, SocketAddr, &str, &[u8], Ends); 5] = [
        ("a head", proxy.address, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ", b"x", told),
        ("a body", proxy.address, &format!("{post}Content-Length: 60000\r\n\r\n"), b"x", told),
        ("a chunk", proxy.address, &format!("{post}Transfer-Encoding: chunked\r\n\r\n5;"), b"x", told),
        ("a form", proxy.address, form, &[b'x'; 120], Ends::Told(HURRIED.limited_body)),
        ("a form on the admin port", proxy.admin, form, &[b'x'; 120], Ends::Told(HURRIED.limited_body)),
    ];
    let begun = Instant::now();
    let mut clients: Vec<Dripping> = rows
        .into_iter()
        .map(|(label, port, begin, drip, ends)| Dripping::new(label, port, begin, drip, ends))
        .collect();
    for (label, head, _) in REFUSED_EARLY {
        let mut refused = Dripping::new(label, proxy.address, head, &[b'x'; 1024], Ends::Cut(HURRIED.closing));
        refused.client.send(vec![b'x'; (1 << 16) + 1]);
        clients.push(refused);
    }
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ] {
        // It ends at once for what the proxy sends.
        let label = format!("one that has read its {status}");
        let mut refused = Dripping::new(&label, proxy.address, bytes, SMUGGLED, Ends::Cut(HURRIED.closing));
        assert!(refused.client.reply().status == status && refused.client.is_closed(), "{label}");
        clients.push(refused);
    }
    for dripping in &clients {
        dripping.client.stream.set_nonblocking(true).expect("a socket");
    }
    while clients.iter().any(|dripping| dripping.ended.is_none()) && begun.elapsed() < SOON {
        for dripping in &mut clients {
            dripping.go_on(begun);
        }
        let _ = never::<()>().recv_timeout(BRIEFLY / 5);
    }
    for dripping in clients {
        dripping.expect_end();
    }
    assert!(backend.requests.is_empty());
}

/// Was seen as: after Ctrl-Z and fg, clients whose bytes had come in time were told that they were too slow.
#[test]
fn what_has_come_while_the_process_was_stopped_is_looked_at_before_deadlines() {
    let program = Binary::start(&["--backends", "http://127.0.0.1:1"]);
    let (_, admin) = program.addresses();
    let form = "backends=http://127.0.0.1:2";
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(admin)).collect();
    for client in &mut clients {
        client.send_request("POST", "/update-backends", &[], None);
        assert_eq!(client.reply().status, 400, "it is connected, and has been read");
        client.send(format!(
            "POST /update-backends HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            form.len()
        ));
        assert_eq!(client.reply_to_head().status, 100, "its time begins");
    }
    program.signal("STOP");
    for client in &mut clients {
        client.send(form);
    }
    let _ = never::<()>().recv_timeout(Timeouts::DEFAULT.limited_body + BRIEFLY);
    program.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
}

/// A disk that can't keep up would have every client wait for it.
#[test]
fn only_a_thread_of_its_own_writes_long_bodies_to_the_disk() {
    const LENGTH: usize = 8 << 20;
    let backend = Raw::serving(|mut connection| {
        while connection.request_head().is_some() {
            connection.reply(200, "good");
        }
    });
    let program = Binary::start(&["--backends", &backend.url]);
    let address = program.address();
    let mut client = Client::connect(address);
    let mut post = |body: &[u8]| {
        client.send_request("POST", "/", &[], Some(body));
        assert_eq!(client.reply().text(), "good");
    };
    post(&pattern(1000));
    assert_eq!(program.threads_named("spooler"), 0, "it is started when it is needed");
    post(&pattern(LENGTH));
    post(&pattern(LENGTH));
    assert!(program.bytes_written_by("spooler") >= 2 * LENGTH);
    let by_poller = program.bytes_written_by("poller");
    assert!(by_poller < LENGTH / 8, "{by_poller} bytes");
}

/// Was seen as: once all memory for bodies was taken, the thread that waits for all sockets opened and wrote their files.
#[test]
fn with_all_memory_for_bodies_taken_short_ones_are_written_by_that_thread_too() {
    const TAKEN: usize = 256;
    const LENGTH: usize = 48 * 1024;
    let backend = Raw::serving(|mut connection| {
        while connection.request_head().is_some() {
            connection.reply(200, "good");
        }
    });
    let program = Binary::start(&["--backends", &backend.url]);
    let address = program.address();
    let holding: Vec<Client> = (0..TAKEN)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
            client.send(vec![b'x'; 40 * 1024]);
            client
        })
        .collect();
    let mut client = Client::connect(address);
    eventually("a body goes to a file", || {
        client.send_request("POST", "/", &[], Some(&pattern(LENGTH)));
        assert_eq!(client.reply().text(), "good");
        program.bytes_written_by("spooler") >= LENGTH / 2
    });
    assert_eq!(program.threads_named("spooler"), 1);
    drop(holding);
    eventually("files are closed", || !program.open_files().iter().any(|path| path.contains("(deleted)")));
}
