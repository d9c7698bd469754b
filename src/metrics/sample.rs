//! All figures of a running proxy at one moment. Knows nothing of where they come from, nor of how they are written.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::backend::BackendStats;
use super::process::ProcessSample;
use super::races::RaceStats;
use super::replies::ReplyStats;

/// All figures of a running proxy at one moment.
#[derive(Debug)]
pub struct Sample {
    /// The counts of races.
    pub races: Arc<RaceStats>,
    /// The counts of replies.
    pub replies: Arc<ReplyStats>,
    /// By when hedges by percentile start, if the list has any.
    pub hedge_delay: Option<Duration>,
    /// The backends of the list, in its order.
    pub backends: Vec<BackendSample>,
    /// When the list last changed.
    pub list_changed: SystemTime,
    /// Whether the list was good when it was last read.
    pub is_list_loaded: bool,
    /// The clients and what they wait for.
    pub clients: ClientsSample,
    /// Connections that have been opened to backends.
    pub connections_opened: u64,
    /// Uses of such a connection beyond its first.
    pub connections_reused: u64,
    /// The files of certificates for clients, and the last second of each.
    pub certificates: Vec<(String, SystemTime)>,
    /// Lines of the log that were dropped, since standard error was too slow or took none.
    pub log_lines_dropped: u64,
    /// What the process uses.
    pub process: ProcessSample,
    /// When the proxy was started.
    pub started: SystemTime,
}

/// One backend of the list.
#[derive(Debug)]
pub struct BackendSample {
    /// The text by which its history is told from others': it stays where the list changes.
    pub label: String,
    /// Its name in the list.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// What its legs have done.
    pub stats: Arc<BackendStats>,
    /// Whether its certificate isn't checked.
    pub is_insecure: bool,
    /// Whether it is asked.
    pub state: BackendState,
    /// How it is benched, if that is its state.
    pub benched: Option<Benched>,
    /// Legs that have lost there and wait for their answer.
    pub unanswered: usize,
    /// The addresses of its name, as far as they are known, if each of them is a backend: its counts are theirs together.
    pub addresses: Option<Vec<(IpAddr, BackendState)>>,
}

/// How a backend is benched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Benched {
    /// From when on the next request probes it.
    pub until: SystemTime,
    /// Whether a probe is out.
    pub is_probed: bool,
    /// Whether it has asked for a pause, or else failed often in a row.
    pub was_asked_for: bool,
    /// The benches in a row so far, this one included.
    pub times: u32,
}

/// Whether a backend is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// By every request.
    Racing,
    /// Now and then: it leaves requests unanswered.
    Held,
    /// By a probe now and then: it has failed often in a row, or asked for a pause.
    Benched,
    /// By none, as an operator has said.
    Paused,
}

impl BackendState {
    /// All states, with the words of metrics.
    pub const WORDS: [(BackendState, &str); 4] = [
        (BackendState::Racing, "racing"),
        (BackendState::Held, "held"),
        (BackendState::Benched, "benched"),
        (BackendState::Paused, "paused"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        BackendState::WORDS[self as usize].1
    }
}

/// The clients' port, by number.
#[derive(Debug, Default)]
pub struct ClientsSample {
    /// Open connections.
    pub connections: usize,
    /// The most that may be open.
    pub connections_max: usize,
    /// Requests that are complete and whose reply isn't sent yet.
    pub requests: usize,
    /// Replies of which a part is sent.
    pub relays: usize,
    /// Connections that have switched protocols.
    pub tunnels: usize,
    /// Whether new ones wait, since none of those that are connected can be closed for them.
    pub are_waiting: bool,
}
