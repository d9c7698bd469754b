//! The last races, leg by leg, in bounded memory. Knows nothing of how they are shown.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};

use super::backend::{ENDS, LegEnd, PANIC, UNNEEDED};
use super::histogram::micros_of;
use super::races::RaceEnd;
use crate::message::{Outcome, RequestId, Target};
use crate::runtime::few::sorted_few;
use crate::runtime::sync::Mutex;

/// The most races that are kept. With 64 legs each, 12 bytes a leg, that is 48 KiB, and 20 KiB for their requests.
pub const RACES_MAX: usize = PLACES[0] + PLACES[1] + PLACES[2] + PLACES[3];
/// The longest target that is kept, in bytes, without the query, where tokens are.
const TARGET_BYTES_MAX: usize = 64;
/// The longest method that is kept, in bytes.
const METHOD_BYTES_MAX: usize = 16;
/// The pause between two races of a kind that are kept once all places have been taken in a row: under load the last would all be
/// alike, and keeping each would cost more than counting it.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause between two that were slow, or two that were hedged in vain: a busy proxy has many of them.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// The places of ordinary races, of grave ones, of those that were hedged in vain, and of slow ones.
const PLACES: [usize; 4] = [24, 24, 8, 8];

/// The last races, of which a busy proxy keeps one in some. What is worth a look has places of its own, so that neither ordinary
/// races push out those that were lost, nor slow ones, of which a busy proxy has many.
#[derive(Debug)]
pub struct RecentRaces {
    began: Instant,
    ordinary: Ring,
    /// Lost ones and rescues.
    grave: Ring,
    hedged_in_vain: Ring,
    slow: Ring,
    /// The time from which on a race is slow, in microseconds.
    slow_from: AtomicU64,
    /// The time of the slowest that was kept in this second, in microseconds.
    slowest: AtomicU64,
}

/// Why a race is worth a look: the first reason that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Every leg has lost.
    Lost,
    /// Only the winner could win: every other leg that was started has failed.
    Rescue,
    /// A leg that started by its time hasn't won: those before it were only a little slow.
    HedgedInVain,
    /// Its client has waited longer than 99 in 100 of the last minute.
    Slow,
}

impl Note {
    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Note::Lost => "lost",
            Note::Rescue => "rescue",
            Note::HedgedInVain => "hedged-in-vain",
            Note::Slow => "slow",
        }
    }
}

#[derive(Debug)]
struct Ring {
    places: usize,
    pause: Duration,
    /// When the next race will have been waited for, in microseconds since the start: as many as there are places may come before
    /// that.
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
    /// Why it is worth a look, if it is.
    pub note: Option<Note>,
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

impl fmt::Display for ShownEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShownEnd::Status(status) => write!(f, "{status}"),
            ShownEnd::Word(word) => f.write_str(word),
        }
    }
}

impl Default for RecentRaces {
    fn default() -> RecentRaces {
        let [ordinary, grave, hedged_in_vain, slow] = PLACES;
        RecentRaces {
            began: Instant::now(),
            ordinary: Ring::new(ordinary, PAUSE),
            grave: Ring::new(grave, PAUSE),
            hedged_in_vain: Ring::new(hedged_in_vain, LONG_PAUSE),
            slow: Ring::new(slow, LONG_PAUSE),
            slow_from: AtomicU64::new(u64::MAX),
            slowest: AtomicU64::new(0),
        }
    }
}

impl RecentRaces {
    /// Takes a place for a race that is over now, if it is to be kept. `waited` is its client's time. Costs an atomic load if it isn't.
    pub fn try_reserve(&self, note: Option<Note>, waited: Duration, now: Instant) -> bool {
        let micros = micros_of(now.saturating_duration_since(self.began));
        // Of slow ones the slowest tell most.
        let stands_out = note == Some(Note::Slow) && self.stands_out(micros_of(waited));
        self.ring(note).try_take(micros) || stands_out
    }

    /// Whether a race took twice as long as any that was kept in this second. There are few of those in a row.
    fn stands_out(&self, waited: u64) -> bool {
        let longer = |slowest: u64| Some(waited).filter(|waited| waited / 2 > slowest);
        self.slowest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer).is_ok()
    }

    /// Whether a race is slow whose client has waited for so long.
    pub fn is_slow(&self, waited: Duration) -> bool {
        micros_of(waited) > self.slow_from.load(Ordering::Relaxed)
    }

    /// Takes races for slow that take longer than this; `None`: no race. Is to be told once a second.
    pub fn set_slow_from(&self, time: Option<Duration>) {
        self.slowest.store(0, Ordering::Relaxed);
        self.slow_from.store(time.map_or(u64::MAX, micros_of), Ordering::Relaxed);
    }

    /// Keeps a race, and forgets the oldest of its kind. `names` are those of its legs' backends.
    pub fn keep(&self, mut race: RecentRace, names: Vec<String>) {
        let ring = self.ring(race.note);
        let mut races = ring.races.lock();
        if *races.names != *names {
            races.names = names.into();
        }
        race.names = races.names.clone();
        let forgotten = if races.races.len() >= ring.places { races.races.pop_front() } else { None };
        races.races.push_back(Arc::new(race));
        drop(races);
        // Out of the lock: it frees memory.
        drop(forgotten);
    }

    /// The last races, the newest first.
    pub fn last(&self, count: usize) -> Vec<Arc<RecentRace>> {
        let kept = |ring: &Ring| ring.races.lock().races.iter().cloned().collect::<Vec<_>>();
        let races = [&self.ordinary, &self.grave, &self.hedged_in_vain, &self.slow].map(kept).concat();
        let mut races = sorted_few(races, |race| std::cmp::Reverse(race.at));
        races.truncate(count);
        races
    }

    /// The newest race with this id.
    pub fn of(&self, id: &str) -> Option<Arc<RecentRace>> {
        self.last(RACES_MAX).into_iter().find(|race| race.id.as_str() == id)
    }

    fn ring(&self, note: Option<Note>) -> &Ring {
        match note {
            None => &self.ordinary,
            Some(Note::Lost | Note::Rescue) => &self.grave,
            Some(Note::HedgedInVain) => &self.hedged_in_vain,
            Some(Note::Slow) => &self.slow,
        }
    }
}

impl Ring {
    fn new(places: usize, pause: Duration) -> Ring {
        Ring { places, pause, due: AtomicU64::default(), races: Mutex::default() }
    }

    fn try_take(&self, now: u64) -> bool {
        let pause = micros_of(self.pause);
        let burst = pause * (self.places as u64 - 1);
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
            note: None,
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
        races.keep(kept, names);
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
            let note = [Some(Note::Lost), Some(Note::Slow)].into_iter().nth(usize::try_from(at % 100).expect("few"));
            let id = ["x", "y"].get(usize::try_from(at % 100).expect("few")).unwrap_or(&"a");
            let (mut kept, names) = race(&format!("{id}{}", at / 2), at, 3);
            kept.note = note.flatten();
            races.keep(kept, names);
        }
        let last = races.last(1000);
        assert_eq!(last.len(), PLACES[0] + 10 + PLACES[3]);
        let times: Vec<_> = last.iter().map(|race| race.at).collect();
        assert!(times.is_sorted_by(|a, b| a > b), "the newest first");
        assert!(races.of("x0").is_some() && races.of("y400").is_some() && races.of("a1").is_none());
        let newest = races.of("a499").expect("it is kept");
        assert_eq!(newest.at, SystemTime::UNIX_EPOCH + Duration::from_millis(999), "of two with one id");
        assert_eq!(races.last(20).len(), 20);
    }

    #[test]
    fn memory_is_bounded_and_names_are_shared_while_the_list_stays() {
        let races = RecentRaces::default();
        for at in 0..1000 {
            let (mut kept, names) = race(&"x".repeat(128), at, 64);
            let notes = [None, Some(Note::Rescue), Some(Note::HedgedInVain), Some(Note::Slow)];
            kept.note = notes[usize::try_from(at % 4).expect("few")];
            races.keep(kept, names);
        }
        let last = races.last(1000);
        assert_eq!(last.len(), RACES_MAX);
        let bytes = last.iter().map(|race| {
            size_of::<RecentRace>() + 16 + size_of_val(&*race.legs) + race.path.len() + race.method.len() + 128
        });
        let names: usize = last[0].names.iter().map(|name| size_of::<String>() + name.len()).sum();
        assert!(bytes.sum::<usize>() + 4 * names < 100 * 1024);
        assert!(last.iter().filter(|race| Arc::ptr_eq(&race.names, &last[0].names)).count() >= PLACES[3]);
    }

    #[test]
    fn a_busy_proxy_keeps_some_in_a_row_and_then_ten_a_second() {
        let (races, mut now) = (RecentRaces::default(), Instant::now());
        let wanted = |count: u32, now| (0..count).filter(|_| races.try_reserve(None, Duration::ZERO, now)).count();
        assert_eq!(wanted(1000, now), PLACES[0]);
        now += PAUSE;
        assert_eq!(wanted(1000, now), 1);
        now += 5 * PAUSE;
        assert_eq!(wanted(1000, now), 5);
        let slow = |now| (0..1000).filter(|_| races.try_reserve(Some(Note::Slow), PAUSE, now)).count();
        assert_eq!((slow(now), slow(now + LONG_PAUSE)), (PLACES[3], 1));
        for note in [Note::Lost, Note::HedgedInVain] {
            assert!(races.try_reserve(Some(note), PAUSE, now), "those of note don't wait for the others");
        }
        now += 1000 * PAUSE;
        assert_eq!(wanted(1000, now), PLACES[0]);
    }

    #[test]
    fn a_race_is_slow_by_what_is_usual_and_none_is_where_that_is_not_known() {
        let (races, millis) = (RecentRaces::default(), Duration::from_millis);
        assert!(!races.is_slow(Duration::MAX));
        races.set_slow_from(Some(millis(10)));
        assert!(races.is_slow(millis(11)) && !races.is_slow(millis(10)));
        races.set_slow_from(None);
        assert!(!races.is_slow(millis(11)));
    }

    #[test]
    fn the_slowest_of_a_second_has_a_place_however_many_slow_ones_came_before() {
        let (races, now, millis) = (RecentRaces::default(), Instant::now(), Duration::from_millis);
        let is_kept = |waited| races.try_reserve(Some(Note::Slow), millis(waited), now);
        assert_eq!((0..1000).filter(|_| is_kept(2)).count(), PLACES[3]);
        assert_eq!([3, 300, 310, 600, 602, 700].map(is_kept), [false, true, false, false, true, false]);
        races.set_slow_from(Some(millis(1)));
        assert!(is_kept(300), "a new second");
    }
}
