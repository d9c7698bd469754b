//! One backend of a list: its name there, and what outlives the list. Knows nothing of how the list changes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use crate::list::LocalFiles;
use crate::message::{Address, After, ListEntry};
use crate::metrics::{BackendState, BackendStats, Benched};
use crate::runtime::sync::Arc;
use crate::upstream::bench::Bench;
use crate::upstream::breaker::Breaker;
use crate::upstream::connect::watch::NameWatch;
use crate::upstream::endpoint::Place;
use crate::upstream::hedge_budget::HedgeBudget;
use crate::upstream::look::Look;
use crate::upstream::pool::Pool;
use crate::upstream::shared::Upstream;

/// One backend of a list: its name there, and what outlives the list.
#[derive(Debug)]
pub struct Backend {
    name: String,
    has_own_name: bool,
    is_paused: bool,
    is_insecure: bool,
    after: Option<After>,
    pool: Arc<Pool>,
    lasting: Arc<Lasting>,
    /// If it is one of the addresses of a name: which, and its name for operators.
    one: Option<(SocketAddr, String)>,
    /// If every address of its name is a backend: these.
    each: Option<Each>,
}

/// What a backend keeps for as long as its address is listed.
#[derive(Debug)]
struct Lasting {
    breaker: Breaker,
    look: Look,
    hedges: HedgeBudget,
    bench: Bench,
    stats: Arc<BackendStats>,
}

/// The addresses of a name.
pub(crate) struct Each {
    pub(crate) watch: Arc<NameWatch>,
    pub(crate) backends: Vec<Arc<Backend>>,
}

impl Backend {
    /// The backend of an entry that is called so, with its own files. It keeps what the old one has, which had the same place.
    pub(crate) fn of_entry(
        entry: &ListEntry,
        name: String,
        old: Option<&Backend>,
        files: Option<Arc<LocalFiles>>,
        upstream: &Arc<Upstream>,
    ) -> Backend {
        let socket = entry.options.socket.clone();
        let new_pool = |files| {
            let place = socket.map_or(Place::Url, Place::Socket);
            Pool::at(entry.address.clone(), place, upstream.clone(), files)
        };
        let pool = kept_pool(old, files, new_pool);
        pool.endpoint().set_timeout(entry.options.timeout);
        pool.endpoint().set_exact(entry.options.is_exact);
        Backend {
            name,
            has_own_name: entry.options.name.is_some(),
            is_paused: entry.options.is_paused,
            is_insecure: entry.options.local.is_insecure,
            after: entry.options.after.filter(|after| !after.is_at_once()),
            pool,
            lasting: old.map_or_else(|| Lasting::new(Arc::new(BackendStats::new(SystemTime::now()))), Backend::lasting),
            one: None,
            each: None,
        }
    }

    /// The backend at one of this one's addresses, with which it shares its name, its options and its counts.
    pub(crate) fn at_one(
        &self,
        address: SocketAddr,
        watch: &Arc<NameWatch>,
        old: Option<&Backend>,
        upstream: &Arc<Upstream>,
    ) -> Backend {
        let new_pool = |files| {
            let place = Place::OneOf(address, Arc::downgrade(watch));
            Pool::at(self.address().clone(), place, upstream.clone(), files)
        };
        let pool = kept_pool(old, self.pool.endpoint().files().cloned(), new_pool);
        pool.endpoint().set_timeout(self.pool.endpoint().own_timeout());
        pool.endpoint().set_exact(self.pool.endpoint().is_exact());
        Backend {
            name: self.name.clone(),
            has_own_name: self.has_own_name,
            is_paused: self.is_paused,
            is_insecure: self.is_insecure,
            after: self.after,
            pool,
            lasting: old.map_or_else(|| Lasting::new(self.stats().clone()), Backend::lasting),
            one: Some((address, format!("{}@{}", self.name, address.ip()))),
            each: None,
        }
    }

    /// Has every address of its name be one of these backends.
    pub(crate) fn set_each(&mut self, each: Each) {
        self.each = Some(each);
    }

    fn lasting(&self) -> Arc<Lasting> {
        self.lasting.clone()
    }

    /// Whether it is where an entry says.
    pub(crate) fn is_at(&self, entry: &ListEntry) -> bool {
        *self.address() == entry.address && self.pool.endpoint().socket() == entry.options.socket.as_deref()
    }

    /// The backend's address.
    pub fn address(&self) -> &Address {
        self.pool.address()
    }

    /// Its name: the one that it was given, or its place in the list, `b1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for operators, which says at which of its name's addresses it is, if it is at one of several: `b1@10.0.0.7`.
    pub fn full_name(&self) -> &str {
        self.one.as_ref().map_or(&self.name, |(_, full_name)| full_name)
    }

    /// At which of its name's addresses it is, if each of these is a backend.
    pub fn one_address(&self) -> Option<SocketAddr> {
        self.one.as_ref().map(|(address, _)| *address)
    }

    /// The backends at the addresses of its name, as far as they are known, if each of these is one: they are asked in its place.
    pub fn each(&self) -> Option<&[Arc<Backend>]> {
        self.each.as_ref().map(|each| &*each.backends)
    }

    /// These addresses, and whether each is asked.
    pub fn addresses(&self) -> Option<Vec<(IpAddr, BackendState)>> {
        let state_at = |one: &Arc<Backend>| Some((one.one_address()?.ip(), one.state()));
        self.each().map(|each| each.iter().filter_map(state_at).collect())
    }

    /// What knows these addresses.
    pub(crate) fn watch(&self) -> Option<&Arc<NameWatch>> {
        self.each.as_ref().map(|each| &each.watch)
    }

    /// Whether the list gives it that name, so that it keeps it wherever it stands.
    pub fn has_own_name(&self) -> bool {
        self.has_own_name
    }

    /// Whether it sits races out.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When its legs start, if not with their races.
    pub fn after(&self) -> Option<After> {
        self.after
    }

    /// The hedges that it may get by time.
    pub fn hedges(&self) -> &HedgeBudget {
        &self.lasting.hedges
    }

    /// The bench on which it sits out.
    pub fn bench(&self) -> &Bench {
        &self.lasting.bench
    }

    /// How it is benched, if that is its state; if all of its addresses are, the one that gets a probe next.
    pub fn benched(&self, state: BackendState) -> Option<Benched> {
        if state != BackendState::Benched {
            return None;
        }
        if let Some(each) = self.each().filter(|each| !each.is_empty()) {
            return each.iter().filter_map(|one| one.benched(state)).min_by_key(|benched| benched.until);
        }
        let now = Instant::now();
        let told = self.bench().told(now)?;
        let until = moment_of(told.until, now, SystemTime::now());
        Some(Benched { until, is_probed: told.is_probed, was_asked_for: told.was_asked_for, times: told.times })
    }

    /// Whether it is asked: of several addresses, whether one is.
    pub fn state(&self) -> BackendState {
        let of_each = self.each().into_iter().flatten().map(|one| one.state());
        of_each.min_by_key(|state| *state as u8).unwrap_or_else(|| match self.breaker().is_hung() {
            _ if self.is_paused => BackendState::Paused,
            _ if self.bench().is_benched() => BackendState::Benched,
            true => BackendState::Held,
            false => BackendState::Racing,
        })
    }

    /// The count of legs that have lost there, or at one of its addresses, and wait for their answer.
    pub fn unanswered(&self) -> usize {
        let of_each: usize = self.each().into_iter().flatten().map(|one| one.unanswered()).sum();
        of_each + self.breaker().count()
    }

    /// Whether its certificate isn't checked.
    pub fn is_insecure(&self) -> bool {
        self.is_insecure
    }

    /// The connections to it.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The circuit breaker: the losers that it has left unanswered.
    pub fn breaker(&self) -> &Breaker {
        &self.lasting.breaker
    }

    /// The long look that one of its losers may have.
    pub fn look(&self) -> &Look {
        &self.lasting.look
    }

    /// The counts of what its legs have done.
    pub fn stats(&self) -> &Arc<BackendStats> {
        &self.lasting.stats
    }

    /// Whether it has kept all that another one has, for tests.
    #[cfg(test)]
    pub(crate) fn keeps(&self, old: &Backend) -> bool {
        Arc::ptr_eq(&self.lasting, &old.lasting) && Arc::ptr_eq(&self.pool, &old.pool)
    }
}

impl Lasting {
    fn new(stats: Arc<BackendStats>) -> Arc<Lasting> {
        Arc::new(Lasting {
            breaker: Breaker::default(),
            look: Look::new(Instant::now()),
            hedges: HedgeBudget::default(),
            bench: Bench::default(),
            stats,
        })
    }
}

/// An instant as the clock on the wall shows it, which shows `clock` now.
fn moment_of(instant: Instant, now: Instant, clock: SystemTime) -> SystemTime {
    match instant.checked_duration_since(now) {
        Some(left) => clock + left,
        None => clock.checked_sub(now.duration_since(instant)).unwrap_or(clock),
    }
}

/// The connections of the old backend, unless its files were others.
fn kept_pool(
    old: Option<&Backend>,
    files: Option<Arc<LocalFiles>>,
    new: impl FnOnce(Option<Arc<LocalFiles>>) -> Arc<Pool>,
) -> Arc<Pool> {
    match old {
        Some(old) if is_same(old.pool.endpoint().files(), files.as_ref()) => old.pool.clone(),
        _ => new(files),
    }
}

fn is_same(old: Option<&Arc<LocalFiles>>, new: Option<&Arc<LocalFiles>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_same(new),
        (None, None) => true,
        _ => false,
    }
}

impl std::fmt::Debug for Each {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.backends.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Was seen as: a bench that had been over for a while ended at the present moment, whenever that was asked for.
    #[test]
    fn what_is_past_stays_where_it_was() {
        let (now, clock, second) = (Instant::now(), SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        for seconds in [0, 5, 9] {
            let asked = moment_of(now + 5 * second, now + seconds * second, clock + seconds * second);
            assert_eq!(asked, clock + 5 * second, "after {seconds} s");
        }
    }
}
