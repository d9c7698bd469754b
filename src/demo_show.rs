//! The show of the demo, for a terminal: it races before one's eyes, draws the bars of each race as they grow, kills a backend, and
//! ends with a sum.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::demo::{Demo, SHOWN};
use crate::message::Elapsed;
use crate::metrics::{RecentRace, ShownEnd, ShownLeg, TimeScale};
use crate::server::Meter;
use crate::waterfall::{Bar, BarState, rows};

/// The races that are drawn. After half of them a backend is killed.
const DRAWN: usize = 10;
/// The requests that follow each half at full speed, so that there is something to sum up.
const UNDRAWN: usize = 115;
/// The clients that send those.
const CLIENTS: usize = 10;
/// The time between two pictures.
const FRAME: Duration = Duration::from_millis(40);
/// The end of the axis: the slow backend takes less.
const AXIS: Duration = Duration::from_millis(340);
/// The longest wait for the last leg of a race, beyond which the picture stays as it is.
const RACE_MAX: Duration = Duration::from_secs(2);

/// What clients have been told.
#[derive(Debug, Default)]
struct Sum {
    requests: usize,
    failed: usize,
    wins: BTreeMap<String, usize>,
}

/// A reply, as far as it counts here: whether it is a success, and the backend that has won.
struct Won {
    is_success: bool,
    by: Option<String>,
}

/// Shows races through the proxy at this address. Blocks for some seconds. An error means that the proxy was stopped meanwhile, or
/// that standard output is closed.
pub fn run(demo: &Demo, proxy: SocketAddr, meter: &Meter, out: &mut impl Write) -> io::Result<()> {
    let mut sum = Sum::default();
    writeln!(out, "\nEach request goes to all three at once, and the first good answer wins (▶):\n")?;
    for number in 0..DRAWN {
        if number == DRAWN / 2 {
            sum.add_all(undrawn(proxy))?;
            demo.kill_first();
            writeln!(out, "\nNow b1 is killed. No client notices:\n")?;
        }
        sum.add(draw(demo, proxy, meter, number, out)?);
    }
    sum.add_all(undrawn(proxy))?;
    demo.revive_first()?;
    writeln!(out, "\n{}. b1, dead for half of them, is back.\n", sum.told())
}

/// Races once and draws it, as it goes on.
fn draw(demo: &Demo, proxy: SocketAddr, meter: &Meter, number: usize, out: &mut impl Write) -> io::Result<Won> {
    let (id, began) = (format!("demo-{number}"), Instant::now());
    let (sender, replies) = mpsc::channel();
    let (target, own_id) = (format!("{SHOWN}{number}"), id.clone());
    thread::spawn(move || sender.send((ask(proxy, &target, &own_id), Instant::now())));
    let mut reply: Option<(Won, Duration)> = None;
    let mut lines = 0;
    loop {
        if reply.is_none()
            && let Ok((won, at)) = replies.recv_timeout(FRAME)
        {
            reply = Some((won?, at.saturating_duration_since(began)));
        }
        let elapsed = began.elapsed();
        let race = meter.race(&id);
        let bars = match &race {
            Some(race) => bars_of(race, demo),
            None => bars_so_far(demo, reply.as_ref(), elapsed),
        };
        if lines > 0 {
            write!(out, "\u{1b}[{lines}A")?;
        }
        let asked = format!("GET {SHOWN}{number}");
        let head = match &reply {
            Some((won, at)) => format!("{asked} by {} in {}", won.by.as_deref().unwrap_or("none"), Elapsed(*at)),
            None => asked,
        };
        let picture = [vec![head], rows(&bars, TimeScale::until(AXIS))].concat();
        for line in &picture {
            writeln!(out, "{line}\u{1b}[K")?;
        }
        out.flush()?;
        lines = picture.len();
        match reply.take_if(|_| race.is_some() || elapsed > RACE_MAX) {
            Some((won, _)) => return Ok(won),
            None if reply.is_some() => thread::park_timeout(FRAME),
            None => {}
        }
    }
}

/// The legs of a race that isn't over: which of them has won is known by the reply.
fn bars_so_far(demo: &Demo, reply: Option<&(Won, Duration)>, elapsed: Duration) -> Vec<Bar> {
    let winner = reply.and_then(|(won, at)| Some((won.by.clone()?, *at)));
    let bar = |(name, remark): (String, &'static str)| {
        let (state, end, word) = match &winner {
            Some((by, at)) if *by == name => (BarState::Won, *at, "won"),
            Some(_) => (BarState::Lingering, elapsed, ""),
            None => (BarState::Running, elapsed, ""),
        };
        Bar { name, start: Some(Duration::ZERO), end, state, word: format!("{word:9}"), remark: remark.to_owned() }
    };
    demo.names().map(bar).collect()
}

/// The legs of a race that is over.
fn bars_of(race: &RecentRace, demo: &Demo) -> Vec<Bar> {
    let remarks = demo.names().map(|(_, remark)| remark);
    let bar = |(index, (leg, remark)): (usize, (ShownLeg, &'static str))| {
        let (state, word) = match leg.end {
            ShownEnd::Status(_) if race.winner == Some(index) => (BarState::Won, "won".to_owned()),
            ShownEnd::Status(status) => (BarState::Answered, status.to_string()),
            ShownEnd::Word(word) => (BarState::Failed, word.to_owned()),
        };
        let (name, word) = (leg.backend.to_owned(), format!("{word:9}"));
        Bar { name, start: leg.started, end: leg.ended, state, word, remark: remark.to_owned() }
    };
    race.legs().zip(remarks).enumerate().map(bar).collect()
}

/// Sends requests from several clients at once.
fn undrawn(proxy: SocketAddr) -> Vec<io::Result<Won>> {
    let client = |client: usize| move || (client..UNDRAWN).step_by(CLIENTS).map(|_| ask(proxy, "/", "demo")).collect();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_else(|_| Vec::new())).collect()
    })
}

fn ask(proxy: SocketAddr, target: &str, id: &str) -> io::Result<Won> {
    let mut client = TcpStream::connect(proxy)?;
    client.set_read_timeout(Some(RACE_MAX))?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {id}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    client.read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let is_success = reply.starts_with("HTTP/1.1 2");
    let by =
        reply.split_once("next-hop=").map(|(_, rest)| rest.split([';', '\r']).next().unwrap_or_default().to_owned());
    Ok(Won { is_success, by })
}

impl Sum {
    fn add(&mut self, won: Won) {
        self.requests += 1;
        self.failed += usize::from(!won.is_success);
        if let Some(by) = won.by.filter(|_| won.is_success) {
            *self.wins.entry(by).or_default() += 1;
        }
    }

    fn add_all(&mut self, all: Vec<io::Result<Won>>) -> io::Result<()> {
        all.into_iter().try_for_each(|won| won.map(|won| self.add(won)))
    }

    fn told(&self) -> String {
        let shares: Vec<String> = self
            .wins
            .iter()
            .map(|(name, wins)| format!("{name} won {} %", wins * 100 / self.requests.max(1)))
            .collect();
        format!("{} requests, {} failed; {}", self.requests, self.failed, shares.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::message::ListEntry;
    use crate::server::Server;

    #[test]
    fn the_show_draws_its_races_kills_a_backend_and_loses_no_request() {
        let demo = Demo::start().expect("started");
        let config = Config::new(demo.addresses().into_iter().map(ListEntry::from).collect());
        let server = Server::bind(config.on_loopback()).expect("started");
        let (address, meter, stopper) =
            (server.local_addr().expect("it listens on TCP"), server.meter(), server.stopper());
        let running = thread::spawn(move || server.run());
        let mut shown = Vec::new();
        run(&demo, address, &meter, &mut shown).expect("it is shown");
        stopper.stop();
        running.join().expect("no panic").expect("no error");
        let shown = String::from_utf8(shown).expect("UTF-8");
        let sum = shown.lines().find(|line| line.contains("requests, ")).expect("a sum");
        assert!(sum.starts_with("240 requests, 0 failed; b1 won "), "{sum}");
        assert!(sum.contains(", b2 won ") || sum.contains(", b3 won "), "{sum}");
        let (before, after) = shown.split_once("Now b1 is killed").expect("two acts");
        assert!(!before.contains("refused") && after.contains("refused"), "{shown}");
        assert!(before.contains("b1") && before.contains("▶") && before.contains("▏"), "{shown}");
    }
}
