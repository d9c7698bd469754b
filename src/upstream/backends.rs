//! The list of backends, replaceable at any time. A race takes a snapshot and keeps to it. Knows nothing of what asks for it or
//! replaces it.

use std::fmt;
use std::time::{Instant, SystemTime};

use crate::list::{LoadedFiles, LocalFiles};
use crate::message::{Address, After, ListEntry, LocalOptions};
use crate::metrics::{BackendState, BackendStats};
use crate::runtime::sync::{Arc, RwLock};
use crate::upstream::bench::Bench;
use crate::upstream::breaker::Breaker;
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
    lasting: Arc<Lasting>,
}

/// What a backend keeps for as long as its address is listed.
#[derive(Debug)]
struct Lasting {
    pool: Arc<Pool>,
    breaker: Breaker,
    look: Look,
    hedges: HedgeBudget,
    bench: Bench,
    stats: Arc<BackendStats>,
}

impl Backend {
    /// The backend's address.
    pub fn address(&self) -> &Address {
        self.lasting.pool.address()
    }

    /// Its name: the one that it was given, or its place in the list, `b1`.
    pub fn name(&self) -> &str {
        &self.name
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

    /// Whether it is asked. `unanswered_max` is the bound of its breaker.
    pub fn state(&self, unanswered_max: usize) -> BackendState {
        match self.breaker().is_full(unanswered_max) {
            _ if self.is_paused => BackendState::Paused,
            _ if self.bench().is_benched() => BackendState::Benched,
            true => BackendState::Held,
            false => BackendState::Racing,
        }
    }

    /// Whether its certificate isn't checked.
    pub fn is_insecure(&self) -> bool {
        self.is_insecure
    }

    /// The connections to it.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.lasting.pool
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
}

/// The list of backends.
pub struct Backends {
    upstream: Arc<Upstream>,
    list: RwLock<List>,
    /// The files that entries name, as they were last read.
    files: RwLock<LoadedFiles>,
}

#[derive(Default)]
struct List {
    all: Vec<Arc<Backend>>,
    /// Those of them that aren't paused.
    racing: Vec<Arc<Backend>>,
}

impl Backends {
    /// Makes the first list. The addresses are distinct, which parsing them has ensured.
    pub fn new(entries: &[ListEntry], upstream: Arc<Upstream>) -> Backends {
        Backends::with_files(entries, LoadedFiles::new(), upstream)
    }

    /// Makes the first list, whose entries name these files.
    pub fn with_files(entries: &[ListEntry], files: LoadedFiles, upstream: Arc<Upstream>) -> Backends {
        let backends = Backends { upstream, list: RwLock::default(), files: RwLock::default() };
        backends.set_files(files);
        backends.replace(entries);
        backends
    }

    /// Has the next list find these files, which its entries name.
    pub fn set_files(&self, files: LoadedFiles) {
        *self.files.write() = files;
    }

    /// The backends that a race is among now: those that aren't paused.
    pub fn snapshot(&self) -> Vec<Arc<Backend>> {
        self.list.read().racing.clone()
    }

    /// The whole list as it is now.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.list.read().all.clone()
    }

    /// The count of backends that a race is among now.
    pub fn count(&self) -> usize {
        self.list.read().racing.len()
    }

    /// The counts of connections that have been opened to backends, also to those that are gone, and of uses of an open one for
    /// another request.
    pub fn connection_counts(&self) -> (u64, u64) {
        self.upstream.connection_counts()
    }

    /// Replaces the whole list at once. A backend whose address and socket stay keeps its connections, its breaker and its counts;
    /// if its own files say something else now, its counts alone.
    pub fn replace(&self, entries: &[ListEntry]) {
        let old = self.all();
        let all: Vec<Arc<Backend>> = (entries.iter().enumerate())
            .map(|(index, entry)| {
                let stays = |backend: &&Arc<Backend>| {
                    *backend.address() == entry.address && backend.pool().socket() == entry.options.socket.as_deref()
                };
                let same = old.iter().find(stays);
                let files = self.files_of(&entry.options.local);
                let lasting = match same {
                    Some(same) if is_same(same.pool().files(), files.as_ref()) => same.lasting.clone(),
                    same => self.lasting(entry, files, same.map(|same| same.stats().clone())),
                };
                let has_own_name = entry.options.name.is_some();
                lasting.pool.set_timeout(entry.options.timeout);
                Arc::new(Backend {
                    name: entry.name_at(index),
                    has_own_name,
                    is_paused: entry.options.is_paused,
                    is_insecure: entry.options.local.is_insecure,
                    after: entry.options.after.filter(|after| !after.is_at_once()),
                    lasting,
                })
            })
            .collect();
        let racing = all.iter().filter(|backend| !backend.is_paused).cloned().collect();
        *self.list.write() = List { all, racing };
    }

    fn files_of(&self, local: &LocalOptions) -> Option<Arc<LocalFiles>> {
        local.first()?;
        let files = self.files.read();
        files.iter().find(|(options, _)| options == local).map(|(_, files)| files.clone())
    }

    fn lasting(
        &self,
        entry: &ListEntry,
        files: Option<Arc<LocalFiles>>,
        stats: Option<Arc<BackendStats>>,
    ) -> Arc<Lasting> {
        Arc::new(Lasting {
            pool: Pool::at(entry.address.clone(), entry.options.socket.clone(), self.upstream.clone(), files),
            breaker: Breaker::default(),
            look: Look::new(Instant::now()),
            hedges: HedgeBudget::default(),
            bench: Bench::default(),
            stats: stats.unwrap_or_else(|| Arc::new(BackendStats::new(SystemTime::now()))),
        })
    }
}

fn is_same(old: Option<&Arc<LocalFiles>>, new: Option<&Arc<LocalFiles>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_same(new),
        (None, None) => true,
        _ => false,
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|backend| backend.address().to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::parse_entries;
    use crate::runtime::poller::Poller;
    use crate::upstream::{BenchTicket, ConnectOptions, Finding, PathKey, PendingRequest, SystemLookup};

    fn backends(list: &str) -> Backends {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let upstream =
            Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller).expect("no certificates");
        Backends::new(&parse_entries(list).expect(list), upstream)
    }

    fn replace(backends: &Backends, list: &str) {
        backends.replace(&parse_entries(list).expect(list));
    }

    fn shown(list: &[Arc<Backend>]) -> Vec<String> {
        list.iter().map(|backend| format!("{} {}", backend.name(), backend.address())).collect()
    }

    #[test]
    fn a_snapshot_stays_and_a_backend_keeps_what_outlives_a_list() {
        let backends = backends("http://a,http://b");
        let before = backends.snapshot();
        replace(&backends, "http://c,http://a name=dc1");
        let after = backends.snapshot();
        assert_eq!(shown(&before), ["b1 http://a", "b2 http://b"]);
        assert_eq!(shown(&after), ["b1 http://c", "dc1 http://a"]);
        assert!(Arc::ptr_eq(&before[0].lasting, &after[1].lasting));
    }

    #[test]
    fn a_backend_is_in_the_state_that_says_most() {
        let backends = backends("http://a,http://b");
        let one = || backends.all().remove(0);
        assert_eq!(one().state(1), BackendState::Racing);
        let pending = PendingRequest::default();
        one().breaker().add(&pending, PathKey::of("/"));
        assert_eq!((one().state(1), one().state(2)), (BackendState::Held, BackendState::Racing));
        let ticket = BenchTicket::default();
        let now = Instant::now();
        one().bench().admit(&ticket, Duration::ZERO, true, now);
        one().bench().note(&ticket, Finding::Failure(Some(Duration::from_secs(1))), 2, 0, now);
        assert_eq!(one().state(1), BackendState::Benched);
        replace(&backends, "http://a paused,http://b");
        assert_eq!(one().state(1), BackendState::Paused);
        replace(&backends, "http://a,http://b");
        assert_eq!(one().state(1), BackendState::Benched, "it is kept");
        replace(&backends, "http://b");
        replace(&backends, "http://a,http://b");
        assert_eq!(one().state(1), BackendState::Racing, "one that is added again is new");
    }

    #[test]
    fn options_go_with_the_list_and_not_with_the_backend() {
        let backends = backends("http://a,http://b after=1s timeout=2s");
        let second = || backends.all().remove(1);
        assert_eq!(second().after(), Some(After::Age(Duration::from_secs(1))));
        assert_eq!(second().pool().timeout(), Duration::from_secs(2));
        replace(&backends, "http://a,http://b after=0s");
        assert_eq!((second().after(), second().pool().timeout()), (None, ConnectOptions::default().timeout));
    }

    #[test]
    fn a_paused_backend_is_listed_but_not_raced_and_comes_back_as_it_was() {
        let backends = backends("http://a,http://b,http://c");
        let before = backends.snapshot();
        replace(&backends, "http://a,http://b paused,http://c");
        assert_eq!(shown(&backends.snapshot()), ["b1 http://a", "b3 http://c"]);
        assert_eq!(backends.count(), 2);
        assert_eq!(shown(&backends.all()), ["b1 http://a", "b2 http://b", "b3 http://c"]);
        replace(&backends, "http://a,http://b,http://c");
        assert!(Arc::ptr_eq(&before[1].lasting, &backends.snapshot()[1].lasting));
    }
}
