//! One race from the shell, for `--try`: a proxy of this very configuration on a loopback port, one GET, and the race as a picture.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::message::{Elapsed, Reason};
use crate::metrics::{RaceEnd, RecentRace, ShownEnd};
use crate::server::{Server, StartError};
use crate::waterfall::{self, Bar, BarState};

/// The id of the one request.
const ID: &str = "red-tentacle-try";
/// The time between two looks at whether the race is over.
const TICK: Duration = Duration::from_millis(5);
/// The most of a reply that is kept, in bytes: one of the proxy's own says in its first line why it is no backend's.
const REPLY_BYTES_MAX: usize = 8 * 1024;

/// How a reply has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// Its body broke off.
    Broken,
    /// Not within the timeout.
    Later,
}

/// What has come of it.
#[derive(Debug)]
pub struct Tried {
    /// The race, for people.
    pub text: String,
    /// Whether a backend has won.
    pub has_won: bool,
}

/// Races one GET for the target. Blocks until every leg has ended, which takes no longer than the timeouts. An error says what
/// the host lacks, or why there was no race.
pub fn run(config: Config, target: &str) -> Result<Tried, String> {
    // An update's path is raced like any other.
    let config = Config { admin_on_proxy_port: false, ..config.on_loopback() };
    let (timeout, longest, names) = (config.timeout, config.race_time_max(), config.backends.clone());
    let server = Server::bind(config).map_err(|error| error.to_string())?;
    let (address, meter, stopper) = (server.local_addr().expect("it listens on TCP"), server.meter(), server.stopper());
    thread::scope(|scope| {
        let running = scope.spawn(|| server.run());
        let reply = ask(address, target, timeout).map_err(|error| format!("no reply: {error}"));
        let deadline = Instant::now() + longest;
        let race = loop {
            // Asked first: a race that ends meanwhile is found.
            let is_over = reply.is_err() || meter.races() == 0 || Instant::now() >= deadline;
            let race = meter.race(ID);
            if is_over || race.is_some() {
                break race;
            }
            thread::park_timeout(TICK);
        };
        stopper.stop();
        let ended = running.join().map_err(|_| "the proxy has a bug".to_owned())?;
        ended.map_err(|error| StartError::no_thread(&error).to_string())?;
        let (status, text, end) = reply?;
        let race = race.ok_or_else(|| format!("no race: the proxy answered {status}: {}", reason_in(&text)))?;
        let urls = (0..).zip(&names).map(|(index, entry)| (entry.name_at(index), entry.address.to_string()));
        Ok(told(&race, &urls.collect::<Vec<_>>(), status, end))
    })
}

/// Asks for the target, and gives the status, the first bytes behind it and how the reply ended, once it is there or as much as comes
/// within the timeout: a stream may have no end.
fn ask(address: SocketAddr, target: &str, timeout: Duration) -> io::Result<(u16, String, End)> {
    let mut client = TcpStream::connect(address)?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {ID}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes())?;
    // The proxy answers within its own timeouts.
    let mut first = [0; 12];
    client.read_exact(&mut first)?;
    let status = str::from_utf8(&first[9..]).ok().and_then(|digits| digits.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let until = Instant::now() + timeout;
    let (mut buffer, mut kept) = (vec![0; 64 * 1024], Vec::new());
    let end = loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break End::Later;
        }
        client.set_read_timeout(Some(left))?;
        match client.read(&mut buffer) {
            Ok(0) => break End::Whole,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break End::Later,
            // The program was stopped for a moment, as by Ctrl-Z.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break End::Broken,
            Ok(count) => kept.extend_from_slice(&buffer[..count.min(REPLY_BYTES_MAX - kept.len())]),
        }
    };
    Ok((status, String::from_utf8_lossy(&kept).into_owned(), end))
}

/// The first line of a reply's body.
fn reason_in(reply: &str) -> Reason<'_> {
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Reason(body.lines().next().unwrap_or_default())
}

/// Draws the race. `urls` are those of the backends, by their names.
fn told(race: &RecentRace, urls: &[(String, String)], status: u16, end: End) -> Tried {
    let has_won = race.end == RaceEnd::Won;
    let bars: Vec<Bar> = (race.legs().enumerate())
        .map(|(index, leg)| {
            let state = match leg.end {
                _ if race.winner == Some(index) => BarState::Won,
                ShownEnd::Status(_) => BarState::Answered,
                ShownEnd::Word(_) => BarState::Failed,
            };
            let word = leg.end.to_string();
            // Behind the name there may be one of its addresses.
            let name = leg.backend.split('@').next().unwrap_or_default();
            let remark = urls.iter().find(|url| url.0 == name).map(|url| url.1.clone()).unwrap_or_default();
            Bar { name: leg.backend.to_owned(), start: leg.started, end: leg.ended, state, word, remark }
        })
        .collect();
    let by = race.by().map(|name| format!(" by {name}")).unwrap_or_default();
    let but = match end {
        End::Whole => "",
        End::Broken => ", but its body broke off",
        End::Later => ", but its body had no end within --timeout",
    };
    let mut text = format!("GET {} {status} in {}{by}{but}\n", race.path, Elapsed(race.after));
    for row in waterfall::rows(&bars, waterfall::scale_of(&bars)) {
        text.push_str(&row);
        text.push('\n');
    }
    Tried { text, has_won }
}
