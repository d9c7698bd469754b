//! Names, addresses and ports on the way to a backend.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use red_tentacle::config::Config;

use crate::harness::{
    BRIEFLY, Client, Deaf, Fake, Gate, Load, Names, Proxy, Raw, SOON, Told, eventually, is_alone, many, patiently,
    refusing, threads_max,
};

/// A proxy that looks names up like this and opens a connection for every request.
fn proxy_with(names: &Arc<Names>, backends: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
    let config = Proxy::config(backends, |config| {
        config.max_idle_connections = 0;
        config.expose_backends = true;
        change(config);
    });
    Proxy::naming(config, names.clone())
}

/// A proxy that looks names up like this and uses its connections again.
fn reusing_proxy_with(names: &Arc<Names>, url: &str, change: impl FnOnce(&mut Config)) -> Proxy {
    let config = Proxy::config(&[url.to_owned()], change);
    Proxy::naming(config, names.clone())
}

/// An hour: no answer of a lookup grows old.
fn lasting(config: &mut Config) {
    config.dns_ttl = Duration::from_secs(3600);
}

/// Answers of lookups grow old at once, or nearly so.
fn fleeting(config: &mut Config) {
    config.dns_ttl = Duration::from_millis(30);
}

fn address_of(url: &str) -> SocketAddr {
    url.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address")
}

fn no_such_name() -> io::Error {
    io::Error::other("no such name")
}

#[test]
fn a_literal_address_is_never_looked_up() {
    let names = Names::answering(|_, _, _| Err(no_such_name()));
    for address in ["127.0.0.1:0", "[::1]:0"] {
        // Not every host has IPv6.
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let good = Raw::on(listener, |mut connection| {
            while connection.request().is_some() {
                connection.reply(200, "good");
            }
        });
        let proxy = proxy_with(&names, std::slice::from_ref(&good.url), |_| {});
        assert_eq!(proxy.get("/").text(), "good", "{address}");
    }
    assert!(names.asked().is_empty());
}

#[test]
fn a_name_is_looked_up_once_for_many_requests() {
    let good = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let names = Names::of_this_host();
    let url = format!("http://good.example:{}", good.address.port());
    let proxy = proxy_with(&names, &[url], lasting);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    assert_eq!(names.asked(), [format!("good.example:{}", good.address.port())]);
    assert_eq!(good.accepted(), 20);
}

#[test]
fn a_backend_gets_its_own_name_in_host_and_not_its_address() {
    let good = Fake::with(200, "good");
    let port = address_of(&good.url).port();
    let proxy = proxy_with(&Names::of_this_host(), &[format!("http://good.example:{port}")], |_| {});
    assert_eq!(proxy.get("/").text(), "good");
    assert_eq!(good.next().values("host"), [format!("good.example:{port}")]);
}

#[test]
fn an_old_answer_is_replaced_by_a_new_one() {
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let addresses = [address_of(&old.url), address_of(&new.url)];
    let names = Names::answering(move |_, _, number| Ok(vec![addresses[number.min(1)]]));
    let proxy = proxy_with(&names, &["http://moving.example".to_owned()], fleeting);
    assert_eq!(proxy.get("/").text(), "old");
    eventually("the new answer is used", || proxy.get("/").text() == "new");
}

/// A backend that answers every request on every connection with its name, and tells when it is hung up on.
fn named(name: &'static str) -> Raw {
    Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            connection.reply(200, name);
        }
        connection.wait_for_hang_up();
    })
}

/// Was seen as: with `--dns-ttl 1s` every request of a busy client went to the old address for ever, since its connection was
/// always used again.
#[test]
fn a_busy_name_that_moves_is_followed() {
    let (old, new) = (named("old"), named("new"));
    let addresses = [old.address, new.address];
    let names = Names::answering(move |_, _, number| Ok(vec![addresses[number.min(1)]]));
    let proxy = reusing_proxy_with(&names, "http://moving.example", fleeting);
    let mut client = Client::connect(proxy.address);
    let mut ask = || {
        client.send_request("GET", "/", &[], None);
        client.reply().text()
    };
    assert_eq!(ask(), "old");
    eventually("the new address is asked", || ask() == "new");
    (0..20).for_each(|_| assert_eq!(ask(), "new"));
    assert_eq!((old.accepted(), new.accepted()), (1, 1), "no request had to make a connection for that");
}

#[test]
fn idle_connections_to_an_address_that_has_left_its_name_are_closed_at_once() {
    let (old, new) = (named("old"), named("new"));
    let gate = Gate::new();
    let names = Names::moving([old.address, new.address], &gate);
    let proxy = reusing_proxy_with(&names, "http://moving.example", fleeting);
    eventually("the name is looked up anew for requests on the same line", || {
        assert_eq!(proxy.get("/").text(), "old");
        names.asked().len() == 2
    });
    assert!(!old.was_hung_up_on() && old.accepted() == 1);
    gate.open();
    // By itself an idle connection ends after 4 s.
    assert!(old.is_hung_up_on_within(Duration::from_secs(3)));
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn a_busy_connection_to_an_address_that_has_left_its_name_serves_its_request_and_no_other() {
    let (busy, answers) = (Gate::new(), Gate::new());
    let old = Raw::serving({
        let (busy, answers) = (busy.clone(), answers.clone());
        move |mut connection| {
            while let Some(request) = connection.request() {
                if request.starts_with(b"GET /long ") {
                    busy.open();
                    answers.pass();
                }
                connection.reply(200, "old");
            }
            connection.wait_for_hang_up();
        }
    });
    let new = named("new");
    let (addresses, looked_up) = ([old.address, new.address], Gate::new());
    let names = Names::moving(addresses, &looked_up);
    let proxy = reusing_proxy_with(&names, "http://moving.example", |config| {
        fleeting(config);
        patiently(config);
    });
    assert_eq!(proxy.get("/").text(), "old");
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/long", &[], None);
    busy.pass();
    looked_up.open();
    eventually("the new answer is known", || proxy.get("/").text() == "new");
    answers.open();
    assert_eq!(client.reply().text(), "old", "what is under way is finished");
    assert!(old.is_hung_up_on_within(Duration::from_secs(3)), "its line isn't kept");
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "new");
    }
}

#[test]
fn connections_to_an_address_that_stays_are_kept_whatever_else_a_lookup_says() {
    let (good, other) = (named("good"), named("other"));
    let (first, second) = (good.address, other.address);
    let answer = move |number: usize| match number {
        0 | 2 => Ok(vec![first, second]),
        1 => Ok(vec![second, first]),
        3 => Ok(vec![first]),
        4 => Ok(Vec::new()),
        _ => Err(no_such_name()),
    };
    for failing in [false, true] {
        let names =
            Names::answering(move |_, _, number| answer(if failing && number > 0 { number + 3 } else { number }));
        let proxy = reusing_proxy_with(&names, "http://staying.example", fleeting);
        let before = good.accepted();
        eventually("there were a few lookups", || {
            assert_eq!(proxy.get("/").text(), "good");
            // A failed one isn't repeated for a while.
            names.asked().len() >= if failing { 2 } else { 4 }
        });
        for _ in 0..20 {
            assert_eq!(proxy.get("/").text(), "good");
        }
        assert_eq!((good.accepted() - before, other.accepted()), (1, 0), "failing: {failing}");
    }
}

/// Was seen as: 36 requests failed as refused over 19 s after a container was recreated at another address.
#[test]
fn a_name_whose_addresses_all_refuse_is_looked_up_again_by_the_same_leg() {
    let good = named("good");
    let dead = [address_of(&refusing()), address_of(&refusing())];
    let address = good.address;
    let names = Names::answering(move |_, _, number| if number == 0 { Ok(dead.to_vec()) } else { Ok(vec![address]) });
    let proxy = proxy_with(&names, &["http://recreated.example".to_owned()], lasting);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    assert_eq!(names.asked().len(), 2);
}

#[test]
fn a_name_whose_addresses_are_all_silent_is_looked_up_again_for_the_next_legs() {
    let (good, dead) = (named("good"), Deaf::new());
    let addresses = [dead.address, good.address];
    let names = Names::answering(move |_, _, number| Ok(vec![addresses[number.min(1)]]));
    let proxy = proxy_with(&names, &["http://moved.example".to_owned()], |config| {
        lasting(config);
        config.timeout = Duration::from_millis(300);
    });
    assert!(proxy.get("/").text().contains(" connect-timeout: "));
    eventually("the new answer is used", || proxy.get("/").text() == "good");
    assert_eq!(names.asked().len(), 2);
}

#[test]
fn a_name_that_goes_on_refusing_is_looked_up_once_a_second_and_costs_no_time() {
    let dead = address_of(&refusing());
    let names = Names::answering(move |_, _, _| Ok(vec![dead]));
    let proxy = proxy_with(&names, &["http://down.example".to_owned()], |config| {
        lasting(config);
        patiently(config);
    });
    let began = Instant::now();
    let row = "b1 http://down.example refused: the backend refused the connection";
    for _ in 0..100 {
        assert_eq!(proxy.get("/").text().lines().nth(1), Some(row));
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("a few");
    assert!((2..=3 + seconds).contains(&names.asked().len()), "{} lookups in {seconds} s", names.asked().len());
}

#[test]
fn a_lookup_that_hangs_does_not_hold_a_leg_that_was_refused_for_long() {
    let (dead, gate) = (address_of(&refusing()), Gate::new());
    let held = gate.clone();
    let names = Names::answering(move |_, _, number| {
        if number > 0 {
            held.pass();
        }
        Ok(vec![dead])
    });
    let proxy = proxy_with(&names, &["http://down.example".to_owned()], |config| {
        lasting(config);
        patiently(config);
    });
    let began = Instant::now();
    for _ in 0..5 {
        assert!(proxy.get("/").text().contains(" refused: "));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(names.asked().len(), 2);
    gate.open();
}

#[test]
fn an_old_answer_is_used_while_a_lookup_hangs() {
    let (old, new) = (Fake::with(200, "old"), Fake::with(200, "new"));
    let gate = Gate::new();
    let names = Names::moving([address_of(&old.url), address_of(&new.url)], &gate);
    let proxy = proxy_with(&names, &["http://moving.example".to_owned()], |config| {
        fleeting(config);
        patiently(config);
    });
    eventually("the second lookup has begun", || {
        assert_eq!(proxy.get("/").text(), "old");
        names.asked().len() == 2
    });
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "old");
    }
    assert_eq!(names.asked().len(), 2, "while one lookup hangs, no other begins");
    gate.open();
    eventually("the new answer is used", || proxy.get("/").text() == "new");
}

#[test]
fn an_old_answer_is_used_when_lookups_fail() {
    let old = Fake::with(200, "old");
    let address = address_of(&old.url);
    let names = Names::answering(move |_, _, number| if number == 0 { Ok(vec![address]) } else { Err(no_such_name()) });
    let proxy = proxy_with(&names, &["http://lost.example".to_owned()], fleeting);
    eventually("a lookup has failed", || {
        assert_eq!(proxy.get("/").text(), "old");
        names.asked().len() >= 2
    });
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "old");
    }
}

/// Was seen as: not a word for as long as the old addresses did, and at the next start the backend was gone.
#[test]
fn that_a_known_name_cannot_be_looked_up_is_told_once_and_so_is_its_end() {
    let (dead, good) = (address_of(&refusing()), Fake::with(200, "good"));
    let address = address_of(&good.url);
    let names = Names::answering(move |_, _, number| match number {
        0 => Ok(vec![dead]),
        1 | 2 => Err(no_such_name()),
        _ => Ok(vec![address]),
    });
    let told = Told::about("told-lost.example:80 ");
    let proxy = proxy_with(&names, &["http://told-lost.example".to_owned()], lasting);
    eventually("the name is found again", || proxy.get("/").status == 200);
    let lines = [told.line(), told.line()];
    let expected = ["can't be looked up (no such name): its old addresses stay", "can be looked up again"];
    assert_eq!(lines, expected.map(|line| format!("told-lost.example:80 {line}")));
}

#[test]
fn a_first_lookup_that_hangs_is_given_up_when_another_backend_wins() {
    let good = Fake::with(200, "good");
    let gate = Gate::new();
    let held = gate.clone();
    let names = Names::answering(move |_, _, _| {
        held.pass();
        Err(no_such_name())
    });
    let proxy = proxy_with(&names, &["http://hanging.example".to_owned(), good.url.clone()], patiently);
    let told = Told::about("GET /lookup-hangs ");
    for _ in 0..3 {
        assert_eq!(proxy.get("/lookup-hangs").text(), "good");
        let line = told.line();
        assert!(line.contains(" b1=cancelled b2=200/"), "{line}");
    }
    eventually("the name is looked up", || !names.asked().is_empty());
    assert_eq!(names.asked().len(), 1, "however many races it loses, it hangs once");
    gate.open();
}

#[test]
fn a_first_lookup_that_hangs_alone_loses_with_its_word_when_the_time_is_over() {
    let gate = Gate::new();
    let held = gate.clone();
    let names = Names::answering(move |_, _, _| {
        held.pass();
        Err(no_such_name())
    });
    let proxy = proxy_with(&names, &["http://hanging.example".to_owned()], |config| {
        config.timeout = Duration::from_millis(200);
    });
    let told = Told::about("GET /lookup-hangs-alone ");
    let reply = proxy.get("/lookup-hangs-alone");
    assert_eq!(reply.status, 502);
    let row = "b1 http://hanging.example dns: the name doesn't resolve: no answer for hanging.example in time";
    assert_eq!(reply.text().lines().nth(1), Some(row));
    let line = told.line();
    assert!(line.contains(" b1=dns [b1 http://hanging.example (no answer for hanging.example in time)]"), "{line}");
    gate.open();
}

#[test]
fn a_name_that_does_not_resolve_loses_at_once_and_is_looked_up_again() {
    let good = Fake::with(200, "good");
    let address = address_of(&good.url);
    let names = Names::answering(move |_, _, number| match number {
        0 => Err(no_such_name()),
        1 => Ok(Vec::new()),
        2 => panic!("meant"),
        _ => Ok(vec![address]),
    });
    let proxy = proxy_with(&names, &["http://late.example".to_owned()], patiently);
    for reason in ["no such name", "it has no addresses", "the lookup panicked"] {
        let row = format!("b1 http://late.example dns: the name doesn't resolve: {reason}");
        // The last failure counts for a moment.
        eventually(reason, || proxy.get("/").text().lines().nth(1) == Some(row.as_str()));
    }
    eventually("a name that comes to life is found", || proxy.get("/").text() == "good");
}

#[test]
fn an_address_that_refuses_costs_nothing() {
    let good = Fake::with(200, "good");
    let mut addresses: Vec<SocketAddr> = (0..40).map(|_| address_of(&refusing())).collect();
    addresses.push(address_of(&good.url));
    let names = Names::answering(move |_, _, _| Ok(addresses.clone()));
    let proxy = proxy_with(&names, &["http://many.example".to_owned()], patiently);
    let began = Instant::now();
    assert_eq!(proxy.get("/").text(), "good");
    // A quarter of a second for each would be ten.
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// Was seen as: a name with 20 dead addresses took 20 descriptors for each request.
#[test]
fn a_name_with_many_dead_addresses_is_connected_to_by_few_at_once() {
    const LEGS: usize = 10;
    let dead = Deaf::new();
    let addresses = vec![dead.address; 20];
    let names = Names::answering(move |_, _, _| Ok(addresses.clone()));
    let proxy = proxy_with(&names, &["http://dead.example".to_owned()], |config| {
        config.timeout = Duration::from_secs(2);
    });
    let mut clients: Vec<Client> = (0..LEGS).map(|_| Client::connect(proxy.address)).collect();
    for client in &mut clients {
        client.send_request("POST", "/", &[], Some(b"body"));
    }
    let mut most = 0;
    eventually("the legs have ended", || {
        let begun = Instant::now();
        let attempts = dead.attempts();
        // Three each are meant, and while the kernel's list is read, which isn't of one moment, another may begin. One that took long to
        // read tells nothing.
        let is_told = begun.elapsed() < Duration::from_millis(250);
        assert!(!is_told || attempts <= 4 * LEGS, "{attempts} at once");
        most = most.max(attempts);
        attempts == 0 && most > 0
    });
    assert!(most >= LEGS, "{most} at once");
    for client in &mut clients {
        assert!(client.reply().text().contains(" connect-timeout: "));
    }
}

/// Was seen as: each leg that tried a second address held a thread, so that a thousand of them kept all others out.
#[test]
fn legs_that_try_other_addresses_hold_no_thread() {
    const LEGS: usize = 200;
    let (dead, good) = (Deaf::new(), Fake::with(200, "good"));
    let silent = dead.address;
    let names = Names::answering(move |_, _, _| Ok(vec![silent; 2]));
    let proxy = proxy_with(&names, &["http://dead.example".to_owned(), good.url.clone()], |config| {
        patiently(config);
        config.linger_unsafe = 3 * SOON;
        config.grace_period = BRIEFLY;
    });
    for number in 0..LEGS {
        assert_eq!(proxy.post("/", b"body").text(), "good", "{number}");
    }
    assert!(dead.attempts() > 64);
}

/// The threads of this process but the test's own, which have the test's name or none of their own.
fn threads_of_proxies() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("reach::") && !name.starts_with("it-")).count()
}

/// Was seen as: with a dead data centre, a name with two addresses, four clients' 316 POSTs a second took 1,038 threads; the
/// slowest of a hundred waited 1.2 s instead of 7 ms.
#[test]
fn posts_to_names_with_several_dead_addresses_hold_no_thread_and_delay_no_other_request() {
    if !is_alone("reach::posts_to_names_with_several_dead_addresses_hold_no_thread_and_delay_no_other_request") {
        return;
    }
    let posts = many(640);
    for dead_addresses in [2, 5] {
        let (dead, good) = (Deaf::new(), named("good"));
        let addresses = vec![dead.address; dead_addresses];
        let names = Names::answering(move |_, _, _| Ok(addresses.clone()));
        let config = Proxy::config(&["http://dead.example".to_owned(), good.url.clone()], |config| {
            config.timeout = Duration::from_secs(2);
        });
        let proxy = Proxy::naming(config, names);
        let (most, slowest) = (AtomicUsize::new(0), Mutex::new(Duration::ZERO));
        let count_threads = || most.fetch_max(threads_of_proxies(), Ordering::SeqCst);
        Load { address: proxy.address, clients: 64, requests: posts }.run(|client, number| {
            let asked = Instant::now();
            client.send_request("POST", "/", &[], Some(b"body"));
            assert_eq!(client.reply().text(), "good");
            let mut slowest = slowest.lock().expect("no panic");
            *slowest = asked.elapsed().max(*slowest);
            drop(slowest);
            if number % 16 == 0 {
                count_threads();
            }
        });
        // Their legs to the dead name go on until their time is over.
        let mut attempts = 0;
        eventually("every leg has ended", || {
            count_threads();
            attempts = dead.attempts().max(attempts);
            attempts > 0 && dead.attempts() == 0
        });
        let (most, slowest) = (most.into_inner(), slowest.into_inner().expect("no panic"));
        println!("{dead_addresses} dead addresses: {attempts} attempts, {most} threads, the slowest took {slowest:?}");
        assert!(attempts > posts, "second addresses are tried: {attempts}");
        assert!(most <= threads_max(), "{dead_addresses} dead addresses: {most} threads");
        assert!(slowest < SOON / 10, "{dead_addresses} dead addresses: {slowest:?}");
    }
}

#[test]
fn an_address_that_is_silent_costs_a_quarter_of_a_second_once() {
    let good = Fake::with(200, "good");
    let silent = Deaf::new();
    let addresses = [silent.address, address_of(&good.url)];
    let names = Names::answering(move |_, _, _| Ok(addresses.to_vec()));
    let proxy = proxy_with(&names, &["http://two.example".to_owned()], |config| {
        lasting(config);
        patiently(config);
    });
    let began = Instant::now();
    assert_eq!(proxy.get("/").text(), "good");
    assert!(began.elapsed() >= Duration::from_millis(250), "it took {:?}", began.elapsed());
    // From now on a leg that tried that address first would get another answer.
    let _talking = silent.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\nno more silent");
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "good", "the good address comes first");
    }
    assert_eq!(names.asked().len(), 1);
}

/// Was seen as: whenever a name was looked up anew, a silent address cost a quarter of a second again.
#[test]
fn the_good_address_comes_first_after_the_name_was_looked_up_anew() {
    let good = Fake::with(200, "good");
    let silent = Deaf::new();
    let addresses = [silent.address, address_of(&good.url)];
    let names = Names::answering(move |_, _, _| Ok(addresses.to_vec()));
    let proxy = proxy_with(&names, &["http://two.example".to_owned()], |config| {
        fleeting(config);
        patiently(config);
    });
    assert_eq!(proxy.get("/").text(), "good");
    let _talking = silent.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\nno more silent");
    eventually("the name was looked up a few times", || {
        assert_eq!(proxy.get("/").text(), "good");
        names.asked().len() > 3
    });
}

#[test]
fn a_good_address_that_goes_bad_gives_way_to_the_other() {
    let (first, second) = (Fake::with(200, "first"), Fake::with(200, "second"));
    let addresses = [address_of(&first.url), address_of(&second.url)];
    let names = Names::answering(move |_, _, _| Ok(addresses.to_vec()));
    let proxy = proxy_with(&names, &["http://two.example".to_owned()], lasting);
    assert_eq!(proxy.get("/").text(), "first");
    drop(first);
    eventually("its port is closed", || proxy.get("/").text() == "second");
}

/// Was seen as: with IPv6 that connected and let no answer through, every request failed, though IPv4 was good.
#[test]
fn an_address_that_connects_and_leaves_a_request_unanswered_gives_way_to_the_other() {
    let silent = Raw::serving(|mut connection| connection.wait_for_hang_up());
    let good = Fake::with(200, "good");
    let addresses = [silent.address, address_of(&good.url)];
    let names = Names::answering(move |_, _, _| Ok(addresses.to_vec()));
    let proxy = proxy_with(&names, &["http://two.example".to_owned()], |config| {
        lasting(config);
        config.timeout = Duration::from_millis(200);
    });
    let text = proxy.get("/").text();
    assert!(text.contains(" timeout: "), "{text}");
    eventually("the other address is tried", || proxy.get("/").text() == "good");
}

#[test]
fn the_families_of_addresses_take_turns() {
    let impostor = Fake::with(200, "the second of its family");
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let good = Raw::on(listener, |mut connection| {
        while connection.request().is_some() {
            connection.reply(200, "the first of the other");
        }
    });
    let addresses = [address_of(&refusing()), address_of(&impostor.url), good.address];
    let names = Names::answering(move |_, _, _| Ok(addresses.to_vec()));
    let proxy = proxy_with(&names, &["http://mixed.example".to_owned()], patiently);
    assert_eq!(proxy.get("/").text(), "the first of the other");
}

#[test]
fn all_addresses_together_have_no_longer_than_the_timeout() {
    let silent = [Deaf::new(), Deaf::new(), Deaf::new()];
    let good = Fake::with(200, "good");
    let mut addresses: Vec<SocketAddr> = silent.iter().map(|silent| silent.address).collect();
    addresses.push(address_of(&good.url));
    let names = Names::answering(move |_, _, _| Ok(addresses.clone()));
    // The good one would be tried after 750 ms.
    let proxy = proxy_with(&names, &["http://silent.example".to_owned()], |config| {
        config.timeout = Duration::from_millis(400);
    });
    let text = proxy.get("/").text();
    let row = "b1 http://silent.example connect-timeout: the backend couldn't be reached in time";
    assert_eq!(text.lines().nth(1), Some(row), "{text}");
    assert!(good.received.is_empty());
}

#[test]
fn a_port_that_drops_all_connections_is_given_up_when_another_backend_wins() {
    let silent = Deaf::new();
    let good = Fake::with(200, "good");
    let proxy = proxy_with(&Names::of_this_host(), &[silent.url.clone(), good.url.clone()], patiently);
    let told = Told::about("GET /port-drops ");
    assert_eq!(proxy.get("/port-drops").text(), "good");
    let line = told.line();
    assert!(line.contains(" b1=cancelled b2=200/"), "{line}");
}

/// Was seen as: a backend that spoke before the request was sent was waited for until the timeout.
#[test]
fn a_backend_that_does_not_wait_for_the_request_is_heard() {
    let full = Raw::serving(|mut connection| {
        connection.send("HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n");
        connection.wait_for_hang_up();
    });
    let deaf = Raw::serving(|mut connection| {
        connection.stream.shutdown(Shutdown::Write).expect("an open connection");
        connection.wait_for_hang_up();
    });
    let proxy = proxy_with(&Names::of_this_host(), &[full.url.clone(), deaf.url.clone()], patiently);
    for _ in 0..50 {
        let text = proxy.get("/").text();
        assert!(text.contains(" 503: ") && text.contains(" closed: "), "{text}");
    }
}

#[test]
fn the_systems_own_names_are_known() {
    let good = Fake::with(200, "good");
    let port = address_of(&good.url).port();
    // By the hosts file; if that says ::1 first, that address refuses.
    let proxy = Proxy::before(&[format!("http://localhost:{port}")]);
    assert_eq!(proxy.get("/").text(), "good");
}
