//! Names each of whose addresses is a backend: which of them are asked, what is told of them, and a resolver that changes its mind.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use red_tentacle::config::Config;
use serde_json::Value;

use crate::harness::{
    Authority, Binary, Client, Fake, Gate, Names, Proxy, Raw, Received, Reply, SOON, TlsBackend, Told, eventually, get,
    refusing, reply_to,
};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// Backends at addresses of this host that share a port, as those of one name do. Each answers with its address.
struct Pods {
    port: u16,
    pods: Vec<Raw>,
}

impl Pods {
    /// At 127.0.0.1, 127.0.0.2 and so on; each answers with the status of its number, from 1.
    fn answering<const N: usize>(status: fn(usize) -> u16) -> Pods {
        let listeners = listeners(N);
        let port = listeners[0].local_addr().expect("an address").port();
        let pod = |(number, listener): (usize, TcpListener)| {
            let address = listener.local_addr().expect("an address").ip().to_string();
            Raw::on(listener, move |mut connection| {
                while connection.request().is_some() {
                    connection.reply(status(number), &address);
                }
            })
        };
        Pods { port, pods: (1..).zip(listeners).map(pod).collect() }
    }

    fn new<const N: usize>() -> Pods {
        Pods::answering::<N>(|_| 200)
    }

    /// The entry of a list that stands for them all.
    fn entry(&self, options: &str) -> String {
        format!("http://{}:{} each {options}", self.host(), self.port)
    }

    /// A name of their own, by which their lines of the log can be told.
    fn host(&self) -> String {
        format!("pods{}.example", self.port)
    }

    /// The lines of the log about them, but for those of requests.
    fn told(&self) -> Told {
        Told::about(&format!("b1 http://{}:{} ", self.host(), self.port))
    }

    /// Waits until these pods have each received a request, and no other has.
    fn expect_requests(&self, numbers: &[usize]) {
        for number in numbers {
            self.pods[number - 1].next();
        }
        for (number, pod) in (1..).zip(&self.pods) {
            assert!(numbers.contains(&number) || pod.requests.is_empty(), "127.0.0.{number} is asked");
        }
    }
}

/// Listeners at 127.0.0.1, 127.0.0.2 and so on that share a port.
fn listeners(count: usize) -> Vec<TcpListener> {
    let on_one_port = || {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        let mut listeners = vec![first];
        for number in 2..=count {
            let address = Ipv4Addr::new(127, 0, 0, u8::try_from(number).expect("few"));
            // It may be taken there.
            listeners.push(TcpListener::bind((address, port)).ok()?);
        }
        Some(listeners)
    };
    (0..100).find_map(|_| on_one_port()).expect("a port that is free at all of them")
}

/// What a name's resolver says: the last bytes of addresses in 127.0.0.0/24, or nothing.
#[derive(Clone)]
struct Mind(Arc<Mutex<Option<Vec<u8>>>>);

impl Mind {
    fn made_up(last_bytes: &[u8]) -> Mind {
        Mind(Arc::new(Mutex::new(Some(last_bytes.to_vec()))))
    }

    /// There is no such name.
    fn blank() -> Mind {
        Mind(Arc::new(Mutex::new(None)))
    }

    fn change(&self, last_bytes: Option<&[u8]>) {
        *self.0.lock().expect("no panic") = last_bytes.map(<[u8]>::to_vec);
    }

    fn addresses(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let last_bytes = self.0.lock().expect("no panic").clone();
        let last_bytes = last_bytes.ok_or_else(|| io::Error::other("no such name"))?;
        Ok(last_bytes.iter().map(|byte| SocketAddr::from(([127, 0, 0, *byte], port))).collect())
    }

    fn names(&self) -> Arc<Names> {
        let mind = self.clone();
        Names::answering(move |_, port, _| mind.addresses(port))
    }
}

/// A proxy that looks names up as often as it does at all, and lets every loser answer.
fn proxy_with(names: &Arc<Names>, backends: &[String], change: impl FnOnce(&mut Config)) -> Proxy {
    let config = Proxy::config(backends, |config| {
        config.dns_ttl = Duration::from_millis(1);
        config.linger = SOON;
        config.linger_unsafe = SOON;
        change(config);
    });
    Proxy::naming(config, names.clone())
}

fn show(proxy: &Proxy, target: &str, field: &str) -> Reply {
    reply_to(proxy.admin, "GET", target, &[field], None)
}

fn change(proxy: &Proxy, form: &str) -> Reply {
    reply_to(proxy.admin, "POST", "/backends", &[FORM], Some(form.replace(' ', "+").as_bytes()))
}

/// The addresses of the list's first backend, with their states.
fn addresses(proxy: &Proxy) -> Vec<String> {
    let list: Value = serde_json::from_str(&show(proxy, "/backends", "Accept: application/json").text()).expect("JSON");
    let one = |one: &Value| format!("{} {}", one["address"].as_str().expect("it"), one["state"].as_str().expect("it"));
    list["backends"][0]["addresses"].as_array().expect("addresses").iter().map(one).collect()
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.admin, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).expect(name)
}

/// The legs of the race of a request, once it is over: the names and the words.
fn legs(proxy: &Proxy, reply: &Reply) -> Vec<String> {
    let target = format!("/races/{}", reply.value("x-request-id").expect("an id"));
    eventually("the race is over", || get(proxy.admin, &target).status == 200);
    let race: Value = serde_json::from_str(&get(proxy.admin, &target).text()).expect("JSON");
    let leg =
        |leg: &Value| format!("{} {}", leg["backend"].as_str().expect("a name"), leg["outcome"].as_str().expect("it"));
    race["legs"].as_array().expect("legs").iter().map(leg).collect()
}

#[test]
fn each_address_of_a_name_gets_a_leg_and_the_names_host() {
    let pods = Pods::new::<3>();
    let proxy = proxy_with(&Mind::made_up(&[3, 1, 2]).names(), &[pods.entry("name=api")], |_| {});
    let told = Told::about(&format!("[api@127.0.0.1 http://{}:{}, api@127.0.0.2 ", pods.host(), pods.port));
    let reply = proxy.get("/");
    assert!(reply.text().starts_with("127.0.0."), "{reply:?}");
    for pod in &pods.pods {
        assert_eq!(Received::parse(&pod.next()).values("host"), [format!("{}:{}", pods.host(), pods.port)]);
    }
    assert_eq!(legs(&proxy, &reply), ["api@127.0.0.1 200", "api@127.0.0.2 200", "api@127.0.0.3 200"]);
    let line = told.line();
    assert!(line.contains(&format!(" by api@{} ", reply.text())) && line.contains(" api@127.0.0.3=200/"), "{line}");
    // Clients hear of the name alone.
    let status = reply.value("proxy-status").expect("it");
    assert!(status.contains("api") && !status.contains("127.0.0."), "{status}");
}

#[test]
fn the_counts_of_all_addresses_stand_under_the_one_name() {
    let pods = Pods::answering::<3>(|number| if number == 2 { 503 } else { 200 });
    let proxy = proxy_with(&Mind::made_up(&[1, 2, 3]).names(), &[pods.entry("name=api")], |_| {});
    for _ in 0..4 {
        let reply = proxy.get("/");
        assert_eq!((reply.status, legs(&proxy, &reply).len()), (200, 3));
    }
    for (outcome, count) in [("won", 4), ("late", 4), ("5xx", 4), ("refused", 0)] {
        let series = format!("red_tentacle_legs_total{{backend=\"api\",outcome=\"{outcome}\"}}");
        assert_eq!(metric(&proxy, &series), count, "{outcome}");
    }
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(!metrics.contains("127.0.0."), "{metrics}");
    assert_eq!(metric(&proxy, "red_tentacle_backend_state{backend=\"api\",state=\"racing\"}"), 1);
}

/// Was seen as: a name's addresses had saved what they beat one another by.
#[test]
fn what_an_address_buys_is_measured_by_other_backends_alone() {
    for (other, rescues) in [(false, 0), (true, 4)] {
        let pods = Pods::answering::<2>(|number| if number == 2 { 503 } else { 200 });
        let mut entries = vec![pods.entry("name=api")];
        entries.extend(other.then(refusing));
        let proxy = proxy_with(&Mind::made_up(&[1, 2]).names(), &entries, |_| {});
        for _ in 0..4 {
            let reply = proxy.get("/");
            assert_eq!(legs(&proxy, &reply).len(), entries.len() + 1);
        }
        assert_eq!(metric(&proxy, "red_tentacle_rescues_total{backend=\"api\"}"), rescues);
    }
    let pods = Pods::answering::<2>(|_| 200);
    let proxy = proxy_with(&Mind::made_up(&[1, 2]).names(), &[pods.entry("name=api"), refusing()], |_| {});
    let reply = proxy.get("/");
    assert_eq!(legs(&proxy, &reply).len(), 3);
    assert_eq!(
        metric(&proxy, "red_tentacle_rescues_total{backend=\"api\"}"),
        1,
        "the other address counts for nothing"
    );
}

#[test]
fn an_address_that_comes_is_asked_and_one_that_is_gone_is_not() {
    let (pods, mind) = (Pods::new::<3>(), Mind::made_up(&[1, 2]));
    let told = pods.told();
    let proxy = proxy_with(&mind.names(), &[pods.entry("")], |_| {});
    let url = format!("b1 http://{}:{}", pods.host(), pods.port);
    assert_eq!(told.line(), format!("{url} now has 2 addresses: + 127.0.0.1, + 127.0.0.2"));
    proxy.get("/");
    pods.expect_requests(&[1, 2]);
    mind.change(Some(&[2, 3]));
    eventually("the change is seen", || addresses(&proxy) == ["127.0.0.2 racing", "127.0.0.3 racing"]);
    proxy.get("/");
    pods.expect_requests(&[2, 3]);
    assert_eq!(pods.pods[1].accepted(), 1, "connections to an address that stays are used again");
    let change = format!("{url} now has 2 addresses: + 127.0.0.3, - 127.0.0.1");
    assert_eq!(told.line(), change);
}

#[test]
fn a_leg_to_an_address_that_is_gone_comes_to_its_end() {
    let (gate, mind) = (Gate::new(), Mind::made_up(&[1]));
    let passing = gate.clone();
    let pod = Raw::serving(move |mut connection| {
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            passing.pass();
            connection.send("half");
        }
    });
    let entry = format!("http://stream.example:{} each", pod.address.port());
    let proxy = proxy_with(&mind.names(), &[entry], |_| {});
    let mut client = Client::connect(proxy.address);
    client.send_request("GET", "/", &[], None);
    let mut reply = client.head().expect("a reply");
    mind.change(Some(&[2]));
    eventually("the address is gone", || addresses(&proxy) == ["127.0.0.2 racing"]);
    gate.open();
    client.read_body(&mut reply);
    assert!(reply.whole && reply.text() == "halfhalf", "{reply:?}");
}

#[test]
fn addresses_stay_while_the_name_cannot_be_looked_up() {
    let (pods, mind) = (Pods::new::<2>(), Mind::made_up(&[1, 2]));
    let told = pods.told();
    let names = mind.names();
    let proxy = proxy_with(&names, &[pods.entry("")], |_| {});
    assert!(told.line().contains(" now has 2 addresses: "));
    for (answer, is_told) in [(None, true), (Some(&[][..]), false)] {
        mind.change(answer);
        let asked = names.asked().len();
        eventually("it is looked up in vain", || names.asked().len() >= asked + 2);
        proxy.get("/");
        pods.expect_requests(&[1, 2]);
        if is_told {
            let line = told.line();
            assert!(line.ends_with("can't be looked up (no such name): its 2 addresses stay"), "{line}");
        }
    }
    mind.change(Some(&[2, 1]));
    let again = format!("b1 http://{}:{} can be looked up again", pods.host(), pods.port);
    assert_eq!(told.line(), again);
}

#[test]
fn of_many_addresses_the_first_sixteen_are_asked_and_that_is_told_once() {
    let port = refusing().rsplit_once(':').expect("a port").1.parse::<u16>().expect("a port");
    let many: Vec<u8> = (100..120).rev().collect();
    let mind = Mind::made_up(&many);
    let names = mind.names();
    let told = Told::about(&format!("b1 http://many{port}.example:{port} "));
    let proxy = proxy_with(&names, &[format!("http://many{port}.example:{port} each")], |_| {});
    let expected: Vec<String> = (100..116).map(|byte| format!("127.0.0.{byte} racing")).collect();
    assert_eq!(addresses(&proxy), expected);
    let line = told.line();
    let (words, changes) = line.rsplit_once(": ").expect("changes");
    let words = words.split_once(' ').expect("a name").1;
    assert_eq!(
        (words, changes.matches("+ ").count()),
        (&*format!("http://many{port}.example:{port} now has 20 addresses, of which the first 16 are asked"), 16)
    );
    let asked = names.asked().len();
    eventually("it is looked up again", || names.asked().len() >= asked + 2);
    let reply = proxy.get("/");
    assert_eq!((reply.status, legs(&proxy, &reply).len()), (502, 16));
    mind.change(Some(&many[10..]));
    let next = told.line();
    assert!(
        next.contains(" now has 10 addresses: - 127.0.0.110, "),
        "the next line is that of the next change: {next}"
    );
}

#[test]
fn a_race_has_at_most_64_legs() {
    let port = refusing().rsplit_once(':').expect("a port").1.parse::<u16>().expect("a port");
    let many: Vec<u8> = (100..116).collect();
    let mut list: Vec<String> = (1..=4).map(|name| format!("http://name{name}.example:{port} each")).collect();
    list.extend((1..=3).map(|number| format!("http://127.0.1.{number}:{port}")));
    let proxy = proxy_with(&Mind::made_up(&many).names(), &list, |_| {});
    let reply = proxy.get("/");
    let legs = legs(&proxy, &reply);
    let of = |name: &str| legs.iter().filter(|leg| leg.starts_with(name)).count();
    assert_eq!((reply.status, legs.len()), (502, 64));
    let counts = ["b1@", "b2@", "b3@", "b4@", "b5 ", "b6 ", "b7 "].map(of);
    assert_eq!(counts, [16, 16, 16, 13, 1, 1, 1]);
}

#[test]
fn the_start_waits_for_the_first_lookup_but_no_longer_than_a_leg() {
    let (gate, good, pods) = (Gate::new(), Fake::with(200, "good"), Pods::new::<1>());
    let (passing, mind) = (gate.clone(), Mind::made_up(&[1]));
    let names = Names::answering(move |_, port, _| {
        passing.pass();
        mind.addresses(port)
    });
    let told = pods.told();
    let (began, timeout) = (Instant::now(), Duration::from_millis(300));
    let proxy = proxy_with(&names, &[pods.entry(""), good.url.clone()], |config| config.timeout = timeout);
    let reply = proxy.get("/");
    assert!(began.elapsed() >= timeout, "{:?}", began.elapsed());
    assert_eq!((reply.text(), legs(&proxy, &reply)), ("good".to_owned(), vec!["b2 200".to_owned()]));
    let slow = format!("b1 http://{}:{} has no address yet: no answer in time", pods.host(), pods.port);
    assert_eq!(told.line(), slow);
    assert_eq!(addresses(&proxy), [""; 0]);
    gate.open();
    eventually("it is found", || addresses(&proxy) == ["127.0.0.1 racing"]);
    let reply = proxy.get("/");
    assert_eq!(legs(&proxy, &reply), ["b1@127.0.0.1 200", "b2 200"]);
}

#[test]
fn a_start_that_waits_can_be_stopped() {
    let (gate, pods) = (Gate::new(), Pods::new::<1>());
    let passing = gate.clone();
    let names = Names::answering(move |_, _, _| {
        passing.pass();
        Err(io::Error::other("no such name"))
    });
    let proxy = proxy_with(&names, &[pods.entry("")], |config| config.timeout = 10 * SOON);
    proxy.stop();
    gate.open();
}

#[test]
fn a_name_without_an_address_and_no_other_backend_is_a_loss_that_says_why() {
    let (pods, mind) = (Pods::new::<2>(), Mind::blank());
    let told = pods.told();
    let proxy = proxy_with(&mind.names(), &[pods.entry("")], |_| {});
    let reply = proxy.get("/");
    assert!(reply.status == 502 && reply.text().contains("b1 dns"), "{}", reply.text());
    assert_eq!(legs(&proxy, &reply), ["b1 dns"]);
    let line = told.line();
    assert!(line.ends_with("has no address yet: no such name"), "{line}");
    let page = show(&proxy, "/", "Accept: text/html").text();
    assert!(page.contains("no address of its name is known"), "{page}");
    mind.change(Some(&[1, 2]));
    eventually("they are found", || addresses(&proxy).len() == 2);
    let reply = proxy.get("/");
    assert_eq!(legs(&proxy, &reply), ["b1@127.0.0.1 200", "b1@127.0.0.2 200"]);
}

#[test]
fn the_page_and_the_list_have_the_addresses() {
    let pods = Pods::new::<2>();
    let other = Fake::with(200, "other");
    let list = [pods.entry("name=api"), other.url.clone()];
    let proxy = proxy_with(&Mind::made_up(&[1, 2]).names(), &list, |_| {});
    let page = show(&proxy, "/", "Accept: text/html").text();
    assert!(page.contains("<br>127.0.0.1, 127.0.0.2</small>"), "{page}");
    assert!(page.contains(&format!(">\nhttp://{}:{} name=api each\n{}<", pods.host(), pods.port, other.url)), "{page}");
    let table = get(proxy.admin, "/backends").text();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..3], ["api", &*format!("http://{}:{}", pods.host(), pods.port), "racing"]);
    assert_eq!(rows[2..4], [["api@127.0.0.1", "racing"], ["api@127.0.0.2", "racing"]]);
    assert_eq!(rows[4][0], "b2");
    let json: Value =
        serde_json::from_str(&show(&proxy, "/backends", "Accept: application/json").text()).expect("JSON");
    assert!(json["backends"][1]["addresses"].is_null(), "{json}");
}

#[test]
fn what_is_known_of_an_address_stays_when_others_come() {
    static STATUS: AtomicU8 = AtomicU8::new(0);
    let mind = Mind::made_up(&[1, 2]);
    let pods = Pods::answering::<3>(|number| if number == 2 && STATUS.load(Ordering::SeqCst) == 0 { 500 } else { 200 });
    let proxy = proxy_with(&mind.names(), &[pods.entry("name=api")], |config| config.bench = NonZeroU32::new(2));
    eventually("one is benched", || {
        assert_eq!(proxy.get("/").status, 200);
        addresses(&proxy) == ["127.0.0.1 racing", "127.0.0.2 benched"]
    });
    assert_eq!(metric(&proxy, "red_tentacle_backend_state{backend=\"api\",state=\"racing\"}"), 1, "one of them is");
    mind.change(Some(&[1, 2, 3]));
    eventually("another has come", || addresses(&proxy).len() == 3);
    let found = addresses(&proxy);
    assert_eq!(found, ["127.0.0.1 racing", "127.0.0.2 benched", "127.0.0.3 racing"]);
    let page = show(&proxy, "/", "Accept: text/html").text();
    assert!(page.contains("<br>127.0.0.1, 127.0.0.2 <b class=bad>benched</b>, 127.0.0.3</small>"), "{page}");
    STATUS.store(1, Ordering::SeqCst);
    assert_eq!(change(&proxy, "resume=api").status, 200);
    assert_eq!(addresses(&proxy), ["127.0.0.1 racing", "127.0.0.2 racing", "127.0.0.3 racing"]);
}

/// An address that refuses is asked for anew at once, so that a name all of whose addresses have moved is found again.
#[test]
fn an_address_that_cannot_be_reached_has_the_name_looked_up() {
    let (pods, mind) = (Pods::new::<2>(), Mind::made_up(&[9]));
    let names = mind.names();
    let proxy = proxy_with(&names, &[pods.entry("")], |config| config.dns_ttl = Duration::from_secs(3600));
    assert_eq!(addresses(&proxy), ["127.0.0.9 racing"]);
    mind.change(Some(&[2]));
    eventually("it is found", || proxy.get("/").status == 200);
    assert_eq!(addresses(&proxy), ["127.0.0.2 racing"]);
    assert_eq!(names.asked().len(), 2, "once a second at most");
}

#[test]
fn tls_is_spoken_with_the_name() {
    let authority = Authority::new();
    let listeners = listeners(2);
    let port = listeners[0].local_addr().expect("an address").port();
    let serve =
        |listener| TlsBackend::over(listener, authority.identity(&["api.example"]), |mut one| one.reply_to_all("good"));
    let pods: Vec<TlsBackend> = listeners.into_iter().map(serve).collect();
    let list = [format!("https://api.example:{port} each")];
    let proxy =
        proxy_with(&Mind::made_up(&[1, 2]).names(), &list, |config| config.ca_certificates = vec![authority.der()]);
    assert_eq!(proxy.get("/").text(), "good");
    for pod in &pods {
        assert_eq!(pod.hello().name.as_deref(), Some("api.example"));
        let request = String::from_utf8(pod.next()).expect("a request in ASCII");
        assert!(request.contains(&format!("Host: api.example:{port}\r\n")), "{request}");
    }
}

#[test]
fn a_method_that_is_not_raced_goes_to_the_first_address_that_can_be_reached() {
    let pods = Pods::new::<3>();
    let raced = |config: &mut Config| config.race_methods = Some(vec![Method::GET]);
    let proxy = proxy_with(&Mind::made_up(&[3, 2, 0]).names(), &[pods.entry("")], raced);
    let reply = proxy.post("/", b"body");
    assert_eq!((reply.status, reply.text().as_str()), (200, "127.0.0.2"), "127.0.0.0 can't be reached");
    pods.expect_requests(&[2]);
}

#[test]
fn all_addresses_start_when_the_entry_says() {
    let pods = Pods::new::<2>();
    let bad = Fake::with(503, "no");
    let list = [bad.url.clone(), pods.entry("after=4s")];
    let proxy = proxy_with(&Mind::made_up(&[1, 2]).names(), &list, |_| {});
    let reply = proxy.get("/");
    assert_eq!(legs(&proxy, &reply), ["b1 503", "b2@127.0.0.1 200", "b2@127.0.0.2 200"]);
    let good = Fake::with(200, "good");
    let list = [good.url.clone(), pods.entry("after=4s")];
    let proxy = proxy_with(&Mind::made_up(&[1, 2]).names(), &list, |_| {});
    let reply = proxy.get("/");
    assert_eq!(legs(&proxy, &reply), ["b1 200", "b2@127.0.0.1 unneeded", "b2@127.0.0.2 unneeded"]);
}

#[test]
fn the_list_takes_the_option_by_http_and_by_its_file() {
    let (pods, mind) = (Pods::new::<2>(), Mind::made_up(&[1, 2]));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let good = Fake::with(200, "good");
    std::fs::write(file.path(), format!("{}\n", good.url)).expect("room on the disk");
    let (kept, entries) = red_tentacle::list::ListFile::open(file.path(), Duration::from_secs(5)).expect("a good file");
    let proxy = proxy_with(&mind.names(), &[], |config| {
        config.backends = entries.expect("a list");
        config.backends_file = Some(kept);
    });
    let rows = [
        (
            "add=http://10.0.0.7:80 each",
            "'each' is for the addresses of a name, and 10.0.0.7 is an address; leave it out",
        ),
        ("add=http://a each=on", "'each' takes no value; write it alone, or leave it out"),
    ];
    for (form, reason) in rows {
        let reply = change(&proxy, form);
        assert!(reply.status == 400 && reply.text().contains(reason), "{form}: {}", reply.text());
    }
    assert_eq!(change(&proxy, &format!("add={}&remove={}", pods.entry("name=api"), good.url)).status, 200);
    let line = format!("http://{}:{} name=api each\n", pods.host(), pods.port);
    assert_eq!(std::fs::read_to_string(file.path()).expect("a file"), line);
    eventually("both are found", || addresses(&proxy).len() == 2);
    proxy.get("/");
    pods.expect_requests(&[1, 2]);
    // One backend again, whose addresses are tried in turn.
    let list = format!("http://{}:{}\n", pods.host(), pods.port);
    std::fs::write(file.path(), list).expect("room on the disk");
    proxy.reloader().reload();
    assert_eq!(proxy.get("/").status, 200);
    pods.expect_requests(&[1]);
}

#[test]
fn the_shell_is_told_of_each_address() {
    let good = Fake::with(200, "good");
    let url = good.url.replace("127.0.0.1", "localhost");
    let backends = format!("http://127.0.0.1:1 name=none, {url} each name=api");
    let told = |arguments: &[&str]| {
        let mut command = Binary::command();
        command
            .args(["--backends", &backends, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(arguments);
        Binary::run(command).stdout
    };
    let tried = told(&["--try", "/"]);
    let row = tried.lines().find(|line| line.contains("api@127.0.0.1 ")).unwrap_or_else(|| panic!("{tried}"));
    assert!(row.contains(" 200 ") && row.ends_with(&url), "{tried}");
    let probed = told(&["--check", "--probe"]);
    let row = format!("api@127.0.0.1  {url}");
    assert!(probed.lines().any(|line| line.starts_with(&row) && line.contains("200")), "{probed}");
}

#[test]
fn a_502_with_expose_backends_tells_which_address_failed() {
    let pods = Pods::answering::<2>(|number| 500 + u16::try_from(number).expect("few"));
    let names = Mind::made_up(&[1, 2]).names();
    for is_exposed in [false, true] {
        let proxy = proxy_with(&names, &[pods.entry("name=api")], |config| config.expose_backends = is_exposed);
        let text = proxy.get("/").text();
        let begins: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_once(": ")).map(|line| line.0).collect();
        let url = format!("http://{}:{}", pods.host(), pods.port);
        let [first, second] = [1, 2].map(|number| {
            if is_exposed { format!("api@127.0.0.{number} {url} 50{number}") } else { format!("api 50{number}") }
        });
        assert_eq!(begins, [first, second], "{text}");
    }
}

/// Without the option a name is one backend, whatever it has of addresses.
#[test]
fn a_name_is_one_backend_unless_the_list_says_otherwise() {
    let pods = Pods::new::<3>();
    let entry = pods.entry("").replace(" each", "");
    let proxy = proxy_with(&Mind::made_up(&[1, 2, 3]).names(), &[entry], |_| {});
    let reply = proxy.get("/");
    assert_eq!((reply.text().as_str(), legs(&proxy, &reply)), ("127.0.0.1", vec!["b1 200".to_owned()]));
}
