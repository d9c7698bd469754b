//! The last races, leg by leg, in bounded memory. Knows nothing of how they are shown.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};

use super::backend::{ENDS, LegEnd, PANIC, UNNEEDED};
use super::races::RaceEnd;
use crate::message::{Outcome, RequestId, Target};
use crate::runtime::sync::Mutex;

/// The most races that are kept. With 64 legs each, 12 bytes a leg, that is 48 KiB, and 20 KiB for their requests.
pub const RACES_MAX: usize = 64;
/// The longest target that is kept, in bytes, without the query, where tokens are.
const TARGET_BYTES_MAX: usize = 64;
/// The longest method that is kept, in bytes.
const METHOD_BYTES_MAX: usize = 16;
/// The pause between two races that are kept once [`BURST`] have been in a row: under load the last 64 would all be alike, and
/// keeping each would cost more than counting it.
const PAUSE: Duration = Duration::from_millis(100);
/// Races that are kept in a row, however fast they come.
const BURST: u32 = 32;

/// The last races, of which a busy proxy keeps one in some. Those that were lost, or that only one backend could win, have half
/// of the places to themselves.
#[derive(Debug)]
pub struct RecentRaces {
    began: Instant,
    ordinary: Ring,
    noteworthy: Ring,
}

#[derive(Debug, Default)]
struct Ring {
    /// When the next race will have been waited for, in microseconds since the start: [`BURST`] may come before that.
    due: AtomicU64,
    races: Mutex<Races>,
}

#[derive(Debug, Default)]
struct Races {
    races: VecDeque<Arc<RecentRace>>,
    /// The names of the last race's backends: as long as the list stays, all races share them.
    names: Arc<[String]>,
}

/// A race that is over.
#[derive(Debug)]
pub struct RecentRace {
    /// The request's id.
    pub id: RequestId,
    /// When the request had arrived.
    pub at: SystemTime,
    /// The request's method, cut if it is long.
    pub method: String,
    /// The request's path, cut if it is long.
    pub path: String,
    /// How it ended for its client.
    pub end: RaceEnd,
    /// The status that the client got, if there was a reply.
    pub status: Option<StatusCode>,
    /// The time until the reply's head, or until the last leg's end if there was none.
    pub after: Duration,
    /// The winner, by its place among the legs.
    pub winner: Option<usize>,
    /// Whether only the winner could win: every other leg that was started has failed.
    pub is_rescue: bool,
    names: Arc<[String]>,
    legs: Box<[RecentLeg]>,
}

/// A leg in few bytes.
#[derive(Debug, Clone, Copy)]
struct RecentLeg {
    /// In microseconds since the request's arrival; [`NEVER`] if it wasn't started.
    started: u32,
    ended: u32,
    /// A status, or the place of its word in [`ENDS`].
    end: u16,
    is_success: bool,
}

/// No leg starts so late: a race that runs for more than an hour is a tunnel.
const NEVER: u32 = u32::MAX;
/// From here on an end is a status.
const STATUS_MIN: u16 = 100;

/// One leg, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownLeg<'a> {
    /// The name of its backend at that time.
    pub backend: &'a str,
    /// Its status, or the word of its outcome.
    pub end: ShownEnd,
    /// Whether its answer would have won if it had been the first.
    pub is_success: bool,
    /// When it started, from the request's arrival; `None` if it wasn't.
    pub started: Option<Duration>,
    /// When it ended: of an answer when its head was complete.
    pub ended: Duration,
}

/// The end of a leg, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownEnd {
    /// An answer with this status.
    Status(u16),
    /// The word of any other outcome.
    Word(&'static str),
}

impl Default for RecentRaces {
    fn default() -> RecentRaces {
        RecentRaces { began: Instant::now(), ordinary: Ring::default(), noteworthy: Ring::default() }
    }
}

impl RecentRaces {
    /// Takes a place for a race that is over now, if it is to be kept. Costs an atomic load if it isn't.
    pub fn try_reserve(&self, is_noteworthy: bool, now: Instant) -> bool {
        let micros = micros_of(now.saturating_duration_since(self.began));
        self.ring(is_noteworthy).try_take(micros)
    }

    /// Keeps a race, and forgets the oldest of its kind. `names` are those of its legs' backends.
    pub fn keep(&self, mut race: RecentRace, names: Vec<String>, is_noteworthy: bool) {
        let mut races = self.ring(is_noteworthy).races.lock();
        if *races.names != *names {
            races.names = names.into();
        }
        race.names = races.names.clone();
        let forgotten = if races.races.len() >= RACES_MAX / 2 { races.races.pop_front() } else { None };
        races.races.push_back(Arc::new(race));
        drop(races);
        // Out of the lock: it frees memory.
        drop(forgotten);
    }

    /// The last races, the newest first.
    pub fn last(&self, count: usize) -> Vec<Arc<RecentRace>> {
        let kept = |ring: &Ring| ring.races.lock().races.iter().cloned().collect::<Vec<_>>();
        let mut races = [kept(&self.ordinary), kept(&self.noteworthy)].concat();
        races.sort_by_key(|race| std::cmp::Reverse(race.at));
        races.truncate(count);
        races
    }

    /// The newest race with this id.
    pub fn of(&self, id: &str) -> Option<Arc<RecentRace>> {
        self.last(RACES_MAX).into_iter().find(|race| race.id.as_str() == id)
    }

    fn ring(&self, is_noteworthy: bool) -> &Ring {
        if is_noteworthy { &self.noteworthy } else { &self.ordinary }
    }
}

impl Ring {
    fn try_take(&self, now: u64) -> bool {
        let (pause, burst) = (micros_of(PAUSE), micros_of(PAUSE * (BURST - 1)));
        let due = self.due.load(Ordering::Relaxed);
        if due > now + burst {
            return false;
        }
        // Of two threads that come at once, one keeps its race.
        self.due.compare_exchange(due, due.max(now) + pause, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl RecentRace {
    /// A race of a request, its legs still to be added.
    pub fn new(id: RequestId, at: SystemTime, method: &Method, target: &Target, end: RaceEnd) -> RecentRace {
        RecentRace {
            id,
            at,
            method: cut(method.as_str(), METHOD_BYTES_MAX),
            path: cut(target.path(), TARGET_BYTES_MAX),
            end,
            status: None,
            after: Duration::ZERO,
            winner: None,
            is_rescue: false,
            names: Arc::default(),
            legs: Box::default(),
        }
    }

    /// Sets its legs: each with its start, if it was started, and its end.
    pub fn set_legs<'a>(&mut self, legs: impl Iterator<Item = (Option<Duration>, &'a LegEnd<'a>)>) {
        let leg = |(started, end): (Option<Duration>, &LegEnd)| RecentLeg {
            started: started.map_or(NEVER, short),
            ended: short(end.ended),
            is_success: end.is_success,
            end: match end.outcome {
                Outcome::Status(status) => status.as_u16(),
                other => place_of(other.word()),
            },
        };
        self.legs = legs.map(leg).collect();
    }

    /// The name of the winner's backend.
    pub fn by(&self) -> Option<&str> {
        self.names.get(self.winner?).map(String::as_str)
    }

    /// Its legs, in the order of the list.
    pub fn legs(&self) -> impl Iterator<Item = ShownLeg<'_>> {
        self.legs.iter().zip(self.names.iter()).map(|(leg, name)| ShownLeg {
            backend: name,
            end: if leg.end >= STATUS_MIN {
                ShownEnd::Status(leg.end)
            } else {
                ShownEnd::Word(words().nth(usize::from(leg.end)).unwrap_or(PANIC))
            },
            is_success: leg.is_success,
            started: (leg.started != NEVER).then(|| Duration::from_micros(leg.started.into())),
            ended: Duration::from_micros(leg.ended.into()),
        })
    }
}

/// The words for how legs end.
fn words() -> impl Iterator<Item = &'static str> {
    ENDS.into_iter().chain([PANIC, UNNEEDED])
}

/// The place of a word among them.
fn place_of(word: &str) -> u16 {
    let place = words().position(|end| end == word).unwrap_or(ENDS.len());
    u16::try_from(place).expect("there are few words")
}

fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=text.len().min(bytes_max)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut kept = text[..end].to_owned();
    if end < text.len() {
        kept.push('…');
    }
    kept
}

fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn short(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(NEVER - 1).min(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn race(id: &str, at: u64, legs: usize) -> (RecentRace, Vec<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(RequestId::FIELD, HeaderValue::from_str(id).expect("a value"));
        let target = format!("/{}?token=secret", "é".repeat(60));
        let target = Target::parse(&Method::GET, &target).expect("a target");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
        let mut race = RecentRace::new(RequestId::of(&headers), at, &Method::GET, &target, RaceEnd::Won);
        let ok = Outcome::Status(StatusCode::OK);
        let ends = [ok, Outcome::Tls("x".to_owned()), Outcome::Unneeded, Outcome::Panic];
        let millis = Duration::from_millis(1);
        let started = |leg: usize| (leg % 4 != 2).then_some(millis);
        let end = |outcome| LegEnd {
            outcome,
            has_won: false,
            is_success: matches!(outcome, Outcome::Status(_)),
            started: millis,
            ended: 2 * millis,
        };
        let ends = ends.each_ref().map(end);
        race.set_legs((0..legs).map(|leg| (started(leg), &ends[leg % 4])));
        race.winner = Some(0);
        (race, (1..=legs).map(|leg| format!("b{leg}")).collect())
    }

    #[test]
    fn a_race_is_shown_as_it_was_without_what_is_secret_and_long() {
        let races = RecentRaces::default();
        let (kept, names) = race("a", 5, 4);
        races.keep(kept, names, false);
        let race = races.of("a").expect("it is kept");
        assert_eq!(race.path, format!("/{}…", "é".repeat(31)));
        assert_eq!((race.by(), race.method.as_str()), (Some("b1"), "GET"));
        let millis = |count| Duration::from_millis(count);
        let leg = |backend, end, started| {
            let is_success = matches!(end, ShownEnd::Status(_));
            ShownLeg { backend, end, is_success, started, ended: millis(2) }
        };
        let expected = [
            leg("b1", ShownEnd::Status(200), Some(millis(1))),
            leg("b2", ShownEnd::Word("tls"), Some(millis(1))),
            leg("b3", ShownEnd::Word("unneeded"), None),
            leg("b4", ShownEnd::Word("panic"), Some(millis(1))),
        ];
        assert_eq!(race.legs().collect::<Vec<_>>(), expected);
        assert!(races.of("b").is_none());
    }

    #[test]
    fn the_newest_stay_and_those_of_note_have_places_of_their_own() {
        let races = RecentRaces::default();
        for at in 0..1000_u64 {
            let (kept, names) = race(&format!("{}{}", if at % 100 == 0 { "x" } else { "a" }, at / 2), at, 3);
            races.keep(kept, names, at % 100 == 0);
        }
        let last = races.last(1000);
        assert_eq!(last.len(), RACES_MAX / 2 + 10);
        let times: Vec<_> = last.iter().map(|race| race.at).collect();
        assert!(times.is_sorted_by(|a, b| a > b), "the newest first");
        assert!(races.of("x0").is_some() && races.of("a1").is_none());
        let newest = races.of("a499").expect("it is kept");
        assert_eq!(newest.at, SystemTime::UNIX_EPOCH + Duration::from_millis(999), "of two with one id");
        assert_eq!(races.last(20).len(), 20);
    }

    #[test]
    fn memory_is_bounded_and_names_are_shared_while_the_list_stays() {
        let races = RecentRaces::default();
        for at in 0..1000 {
            let (kept, names) = race(&"x".repeat(128), at, 64);
            races.keep(kept, names, at % 2 == 0);
        }
        let last = races.last(1000);
        assert_eq!(last.len(), RACES_MAX);
        let bytes = last.iter().map(|race| {
            size_of::<RecentRace>() + 16 + size_of_val(&*race.legs) + race.path.len() + race.method.len() + 128
        });
        let names: usize = last[0].names.iter().map(|name| size_of::<String>() + name.len()).sum();
        assert!(bytes.sum::<usize>() + 2 * names < 100 * 1024);
        assert!(last.iter().filter(|race| Arc::ptr_eq(&race.names, &last[0].names)).count() == RACES_MAX / 2);
    }

    #[test]
    fn a_busy_proxy_keeps_some_in_a_row_and_then_ten_a_second() {
        let (races, mut now) = (RecentRaces::default(), Instant::now());
        let wanted = |count: u32, now| (0..count).filter(|_| races.try_reserve(false, now)).count();
        assert_eq!(wanted(1000, now), BURST as usize);
        now += PAUSE;
        assert_eq!(wanted(1000, now), 1);
        now += 5 * PAUSE;
        assert_eq!(wanted(1000, now), 5);
        assert!(races.try_reserve(true, now), "those of note don't wait for the others");
        now += 1000 * PAUSE;
        assert_eq!(wanted(1000, now), BURST as usize);
    }
}
