//! Every word for how a leg ended, for the client and in the log. `unreachable` and `panic` can't be brought about here
//! by a backend alone; the first is tried with an address that no packet is sent to.

use std::net::SocketAddr;

use crate::harness::{Authority, Binary, Client, Connection, Deaf, Fake, Raw, Reply, TlsBackend, get};

/// What the client is told, line by line.
fn rows(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 502, "{reply:?}");
    reply.text().lines().skip(1).map(str::to_owned).collect()
}

/// The words in the line of the log, in the order of the backends.
fn words(line: &str) -> Vec<String> {
    let (legs, _) = line.split_once(" [b1 ").expect("the legs");
    let legs = legs.split(' ').filter_map(|part| part.strip_prefix('b')?.split_once('='));
    legs.map(|(_, word)| word.split('/').next().unwrap_or_default().to_owned()).collect()
}

fn closes(mut connection: Connection) {
    connection.request();
}

fn resets(mut connection: Connection) {
    connection.request();
    connection.reset();
}

#[test]
fn every_way_to_lose_has_its_word_and_its_sentence() {
    let stranger = TlsBackend::with(Authority::new().identity(&["127.0.0.1"]), "no");
    let (missing, refusing, silent) = (Fake::with(404, "no"), crate::harness::refusing(), Deaf::new());
    let (hanging, resetting, closing) = (Raw::hanging(), Raw::serving(resets), Raw::serving(closes));
    let noise = Raw::answering("noise\r\n\r\n");
    let long = Raw::answering(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(25 * 1024)));
    // Link-local without a link: no packet is sent.
    let nowhere = "http://[fe80::1]:81";
    // Longer than a name may be: no server is asked.
    let nameless = format!("http://{}", ["a"; 130].join("."));
    let expected: [(&str, &str, &str); 10] = [
        (&missing.url, "404", "the backend answered 404 Not Found"),
        (&refusing, "refused", "the backend refused the connection"),
        (nowhere, "unreachable", "no route leads to the backend"),
        (&silent.url, "connect-timeout", "the backend couldn't be reached in time"),
        (&hanging.url, "timeout", "the backend's answer didn't come in time"),
        (&resetting.url, "reset", "the backend reset the connection"),
        (&closing.url, "closed", "the backend closed the connection before its answer was complete"),
        (&noise.url, "protocol", "the answer isn't valid HTTP: "),
        (&stranger.url("127.0.0.1"), "tls", "TLS failed: its certificate is signed by nobody we trust: "),
        (&long.url, "too-large", "the head of the answer is too large"),
    ];
    let mut expected = expected.to_vec();
    expected.push((&nameless, "dns", "the name doesn't resolve: "));
    let urls: Vec<&str> = expected.iter().map(|(url, ..)| *url).collect();
    let program = Binary::start(&["--backends", &urls.join(","), "--timeout", "2s", "--expose-backends", "on"]);
    let (address, _) = program.addresses();
    let reply = get(address, "/every-way");
    let line = program.line("/every-way");
    let (rows, words) = (rows(&reply), words(&line));
    for (at, (url, word, sentence)) in expected.iter().enumerate() {
        let begin = format!("b{} {url} {word}: {sentence}", at + 1);
        assert!(rows[at].starts_with(&begin), "{begin:?} isn't in {rows:#?}");
        assert_eq!(words[at], *word, "{line}");
        // What a word can't hold is behind the address.
        if let Some(reason) = rows[at].strip_prefix(&begin).filter(|reason| !reason.is_empty()) {
            assert!(line.contains(&format!("{reason})")), "{reason:?} isn't in {line}");
        }
    }
    assert_eq!((rows.len(), words.len()), (expected.len(), expected.len()));
}

#[test]
fn a_backend_that_leads_back_is_a_loop() {
    let program = Binary::start(&["--backends", "http://first.example"]);
    let (address, admin) = program.addresses();
    let url = format!("http://{address}");
    // A start refuses it; an update can't know by which names the program is reached.
    let mut operator = Client::connect(admin);
    operator.send_request("POST", &format!("/-update-backends?backends={url}"), &[], None);
    assert_eq!(operator.reply().status, 200);
    let reply = get(address, "/loop");
    assert_eq!(rows(&reply), ["b1 loop: the request came back to this proxy"]);
    // The request that came back has a line of its own, without legs.
    let lines = [program.line("GET /loop "), program.line("GET /loop ")];
    let line = lines.iter().find(|line| line.contains(" 502 in ")).expect("the first request's line");
    assert_eq!(words(line), ["loop"]);
    assert!(lines.iter().any(|line| line.contains(" 508 in ")), "{lines:?}");
}

/// As many backends as a list may have, all at one address.
const LEGS: usize = 64;

fn bases(backend: &Raw) -> String {
    (0..LEGS).map(|number| format!("{}/{number}", backend.url)).collect::<Vec<_>>().join(",")
}

fn program_with_descriptors(limit: u32, backends: &str, timeout: &str) -> (Binary, SocketAddr) {
    let mut command = Binary::command_with_limit(&format!("-n {limit}"));
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--backends", backends, "--timeout", timeout]);
    let program = Binary::spawn(command);
    let address = program.address();
    (program, address)
}

#[test]
fn a_leg_for_which_there_is_no_descriptor_has_its_word() {
    let hanging = Raw::hanging();
    let (program, address) = program_with_descriptors(40, &bases(&hanging), "2s");
    let reply = get(address, "/no-descriptor");
    let (rows, words) = (rows(&reply), words(&program.line("/no-descriptor")));
    assert_eq!((rows.len(), words.len()), (LEGS, LEGS));
    for (row, word) in rows.iter().zip(&words) {
        let sentence = match word.as_str() {
            "no-socket" => "this host has no descriptor or port left, or the backend holds its share of them",
            "timeout" => "the backend's answer didn't come in time",
            word => panic!("{word} is another way to lose"),
        };
        assert!(row.ends_with(&format!(" {word}: {sentence}")), "{row}");
    }
    let count = |word: &str| words.iter().filter(|other| *other == word).count();
    assert!(count("no-socket") > LEGS - 40 && count("timeout") > 0, "{words:?}");
}

#[test]
fn a_leg_for_which_no_connection_is_allowed_has_its_word_until_connections_are_free_again() {
    let hanging = Raw::hanging();
    // It leaves room for as many connections as one race needs.
    let (program, address) = program_with_descriptors(192, &bases(&hanging), "60s");
    let mut holding = Client::connect(address);
    holding.send_request("GET", "/holding", &[], None);
    for _ in 0..LEGS {
        hanging.next();
    }
    let reply = get(address, "/no-line");
    assert_eq!((reply.status, reply.value("retry-after")), (503, Some("1")), "{reply:?}");
    let text = reply.text();
    let (sentence, rows) = text.split_once('\n').expect("a line for each leg");
    assert!(sentence.starts_with("Too busy: ") && rows.lines().all(|row| row.contains(" no-socket: ")), "{text}");
    assert_eq!(rows.lines().count(), LEGS);
    let line = program.line("/no-line");
    assert!(line.contains(" 503 in "), "{line}");
    assert_eq!(words(&line), ["no-socket"; LEGS]);
    drop(holding);
    assert_eq!(words(&program.line("/holding")), ["cancelled"; LEGS]);
    let mut next = Client::connect(address);
    next.send_request("GET", "/next", &[], None);
    for _ in 0..LEGS {
        assert!(hanging.next().windows(6).any(|part| part == b"/next "));
    }
}

/// Was seen as: an overload that is this host's own was a 502, which says that the backends failed, and nothing had been said
/// before.
#[test]
fn clients_and_connections_that_do_not_fit_together_are_told_at_the_start_and_after_an_update() {
    let few = ["http://a.invalid", "http://b.invalid"].join(",");
    let many = (0..5).map(|number| format!("http://{number}.invalid")).collect::<Vec<_>>();
    let text = "5 backends, and there is room for 169: ";
    let mut command = Binary::command_with_limit("-n 498");
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--backends", &many.join(",")]);
    let line = Binary::spawn(command).line(text);
    let names = ["81 clients", "ulimit -n", "--max-connections", " WARN "];
    assert!(names.iter().all(|name| line.contains(name)), "{line}");
    let mut command = Binary::command_with_limit("-n 498");
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--backends", &few]);
    let program = Binary::spawn(command);
    let lines = program.lines_until("updates are taken on");
    assert!(!lines.iter().any(|line| line.contains("there is room for 169")), "{lines:?}");
    let admin = lines.last().and_then(|line| line.rsplit(' ').next()).and_then(|word| word.parse().ok());
    let mut client = Client::connect(admin.expect("an address"));
    client.send_request("POST", &format!("/-update-backends?backends={}", many.join(",")), &[], None);
    assert_eq!(client.reply().status, 200);
    program.line(text);
}

#[test]
fn who_is_hung_up_on_and_who_is_not_even_asked_has_a_word_in_the_log() {
    let (good, hanging) = (Fake::with(200, "good"), Raw::hanging());
    let urls = [good.url.clone(), hanging.url.clone()].join(",");
    let program = Binary::start(&["--backends", &urls, "--max-unanswered", "1"]);
    let (address, _) = program.addresses();
    // One loser waits in vain and one goes to see whether it is still in vain; no other does while both linger.
    for _ in 0..20 {
        assert_eq!(get(address, "/silent").text(), "good");
    }
    let mut words: Vec<_> = (0..20).map(|_| words(&program.line("/silent"))).collect();
    words.sort();
    words.dedup();
    // The first has the long look, and its line doesn't wait for that.
    assert_eq!(words, [["200", "cancelled"], ["200", "skipped"], ["200", "…"]]);
}

/// Was seen as: the start ended with `Resource temporarily unavailable (os error 11)`, or without a word.
#[test]
fn a_start_for_which_there_are_too_few_threads_says_so() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Behind main and the log: a worker, `admin`, those for bodies, `signals` and the poller's.
    let beside = 4 + cores.min(4);
    for threads in [2, 3, 4, beside, beside + 1] {
        let Some(mut command) = Binary::command_with_threads(threads) else { return };
        command.args(["--backends", "http://127.0.0.1:1", "--workers", "1"]);
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off"]);
        let ended = Binary::run(command);
        let last = ended.stderr.lines().last().unwrap_or_default();
        assert!(
            ended.code == Some(1) && last.starts_with("red-tentacle: cannot start a thread: "),
            "{threads}: {ended:?}"
        );
        assert!(last.ends_with("; raise the limit of processes (ulimit -u, TasksMax=, --pids-limit)"), "{last}");
    }
}
