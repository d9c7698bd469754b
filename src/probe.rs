//! Tries what a configuration names before it is used: the addresses to listen on, and the backends, each asked once. Knows
//! nothing of how a race is run: it has one run in which no answer wins, so that each is told.

use std::thread;

use crate::admin_client;
use crate::bind;
use crate::config::{Config, LoseIf, OnFailure, Statuses};
use crate::message::{ListEntry, Printable, Refusal};
use crate::server::Server;
use crate::systemd::Sockets;

/// What the probe has found.
pub struct Probed {
    /// A table: a backend a line, or a line for each address of its name if each is one.
    pub table: String,
    /// Whether each backend that isn't paused has answered, with whatever status.
    pub have_all_answered: bool,
}

/// Tries the addresses, and asks each backend for `/`. Blocks for as long as a race takes. An error says in one line what
/// can't be tried, or which address can't be listened on.
pub fn probe(config: Config) -> Result<Probed, String> {
    drop(bind::listening(&config, Sockets::default())?);
    let mut config = config.on_loopback();
    config.success = Statuses::NONE;
    config.definitive = Statuses::NONE;
    config.on_failure = OnFailure::BadGateway;
    config.expose_backends = true;
    config.race_methods = None;
    config.lose_if = LoseIf::default();
    config.win_on_byte = false;
    let (entries, time) = (config.backends.clone(), config.race_time_max());
    let server = Server::bind(config).map_err(|error| error.to_string())?;
    let (address, stopper) = (server.local_addr().expect("it listens on TCP"), server.stopper());
    let serving = thread::Builder::new().name("probe".into()).spawn(move || server.run());
    let serving = serving.map_err(|error| format!("cannot start a thread: {error}"))?;
    let text = admin_client::get_text(address, time);
    stopper.stop();
    let _ = serving.join();
    let text = text?;
    if text.lines().next() != Some(Refusal::AllFailed(Vec::new()).sentence()) {
        return Err(Printable(text.lines().next().unwrap_or_default()).to_string());
    }
    let rows_of = |(index, entry): (usize, &ListEntry)| {
        let (name, url) = (entry.name_at(index), entry.address.to_string());
        if entry.options.is_paused {
            return vec![[name, url, "paused".to_owned()]];
        }
        let unasked = if entry.options.is_each { "dns: no address of its name is known" } else { "not asked" };
        rows_of_legs(&text, name, url, unasked)
    };
    let rows: Vec<[String; 3]> = entries.iter().enumerate().flat_map(rows_of).collect();
    let has_answered = |row: &[String; 3]| row[2] == "paused" || row[2].starts_with(|c: char| c.is_ascii_digit());
    Ok(Probed { have_all_answered: rows.iter().all(has_answered), table: table(&rows) })
}

/// The rows of a backend's leg, or of several, if each address of its name has one: then they are called by their addresses, too.
/// Without one the row says `unasked`.
fn rows_of_legs(text: &str, name: String, url: String, unasked: &str) -> Vec<[String; 3]> {
    let row = |line: &str| {
        let (leg, told) = line.split_once(' ')?;
        let is_of_name = leg.strip_prefix(&name)?.chars().next().is_none_or(|next| next == '@');
        let told = told.strip_prefix(&url)?.trim_start();
        is_of_name.then(|| [leg.to_owned(), url.clone(), Printable(told).to_string()])
    };
    let rows: Vec<[String; 3]> = text.lines().filter_map(row).collect();
    if rows.is_empty() { vec![[name, url, unasked.to_owned()]] } else { rows }
}

fn table(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name_width, url_width) = (width(0), width(1));
    let lines = rows.iter().map(|[name, url, told]| format!("{name:<name_width$}  {url:<url_width$}  {told}\n"));
    lines.collect()
}
