//! The list of backends, replaceable at any time. A race takes a snapshot and keeps to it. Knows nothing of what asks for it or
//! replaces it.

use std::fmt;
use std::net::SocketAddr;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::list::{LoadedFiles, LocalFiles};
use crate::message::{Address, BACKENDS_MAX, ListEntry, LocalOptions, Reason};
use crate::runtime::sync::{Arc, Mutex, RwLock, Weak};
use crate::upstream::backend::{Backend, Each};
use crate::upstream::connect::watch::{NameWatch, News};
use crate::upstream::shared::Upstream;

/// The list of backends.
pub struct Backends {
    upstream: Arc<Upstream>,
    list: RwLock<List>,
    /// The files that entries name, as they were last read.
    files: RwLock<LoadedFiles>,
    /// The list in force, as it is written. Locked while backends are made of it: a change may come at once with the addresses of a
    /// name.
    entries: Mutex<Vec<ListEntry>>,
    /// Closed once the names of the first list have been looked up.
    first_lookups: Receiver<()>,
    this: Weak<Backends>,
}

#[derive(Default)]
struct List {
    all: Vec<Arc<Backend>>,
    /// Those of them that aren't paused; in place of a name each of whose addresses is a backend, these.
    racing: Vec<Arc<Backend>>,
}

/// The room that is left for the addresses of names, so that no race has more than [`BACKENDS_MAX`] legs.
struct Room {
    legs: usize,
    /// The count of names that are still to get some: one for each is kept for them.
    names: usize,
}

impl Backends {
    /// Makes the first list. The addresses are distinct, which parsing them has ensured.
    pub fn new(entries: &[ListEntry], upstream: Arc<Upstream>) -> Arc<Backends> {
        Backends::with_files(entries, LoadedFiles::new(), upstream)
    }

    /// Makes the first list, whose entries name these files.
    pub fn with_files(entries: &[ListEntry], files: LoadedFiles, upstream: Arc<Upstream>) -> Arc<Backends> {
        let (first, first_lookups) = bounded(0);
        let backends = Arc::new_cyclic(|this| Backends {
            upstream,
            list: RwLock::default(),
            files: RwLock::new(files),
            entries: Mutex::default(),
            first_lookups,
            this: this.clone(),
        });
        backends.put_in_force(entries, Some(&first));
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

    /// The count of backends that are asked as soon as a race begins now.
    pub fn count_at_once(&self) -> usize {
        self.list.read().racing.iter().filter(|backend| backend.after().is_none()).count()
    }

    /// Closed once the first lookup of each name is over whose addresses are backends of the first list; nothing is sent.
    pub fn first_lookups(&self) -> &Receiver<()> {
        &self.first_lookups
    }

    /// Tells of each name whose first lookup takes longer than the start may wait.
    pub fn tell_slow_lookups(&self) {
        let all = self.all();
        let is_slow = |backend: &Backend| {
            backend.watch().is_some_and(|watch| !watch.is_failing()) && backend.each().is_some_and(<[_]>::is_empty)
        };
        for backend in all.iter().filter(|backend| is_slow(backend)) {
            tell_none(backend, "no answer in time");
        }
    }

    /// The counts of connections that have been opened to backends, also to those that are gone, and of uses of an open one for
    /// another request.
    pub fn connection_counts(&self) -> (u64, u64) {
        self.upstream.connection_counts()
    }

    /// Replaces the whole list at once. A backend whose address and socket stay keeps its bench, its breaker and its counts, and
    /// unless its own files say something else now its connections.
    pub fn replace(&self, entries: &[ListEntry]) {
        self.put_in_force(entries, None);
    }

    fn put_in_force(&self, entries: &[ListEntry], first: Option<&Sender<()>>) {
        let mut kept = self.entries.lock();
        entries.clone_into(&mut kept);
        self.make_list(entries, first);
    }

    /// Makes the backends of the list in force. Called with the entries locked.
    fn make_list(&self, entries: &[ListEntry], first: Option<&Sender<()>>) {
        let old = self.all();
        let mut room = Room::beside(entries);
        let backend = |(index, entry): (usize, &ListEntry)| {
            let old = old.iter().find(|backend| backend.is_at(entry)).map(|backend| &**backend);
            let files = self.files_of(&entry.options.local);
            let mut backend = Backend::of_entry(entry, entry.name_at(index), old, files, &self.upstream);
            if entry.options.is_each {
                let watch = old.and_then(Backend::watch).cloned().unwrap_or_else(|| self.watch(entry, first.cloned()));
                let each = self.each_of(&backend, watch, old, &mut room);
                backend.set_each(each);
            }
            Arc::new(backend)
        };
        let all: Vec<Arc<Backend>> = entries.iter().enumerate().map(backend).collect();
        let racing = racing_of(&all);
        *self.list.write() = List { all, racing };
    }

    /// The backends at the addresses of a backend's name.
    fn each_of(&self, backend: &Backend, watch: Arc<NameWatch>, old: Option<&Backend>, room: &mut Room) -> Each {
        let old = old.and_then(Backend::each).unwrap_or_default();
        let (mut addresses, count) = watch.addresses();
        room.take(&mut addresses);
        tell_addresses(backend, old, &addresses, count);
        let one = |address| {
            let old = old.iter().find(|old| old.one_address() == Some(address)).map(|old| &**old);
            Arc::new(backend.at_one(address, &watch, old, &self.upstream))
        };
        let backends = addresses.into_iter().map(one).collect();
        Each { watch, backends }
    }

    fn watch(&self, entry: &ListEntry, first: Option<Sender<()>>) -> Arc<NameWatch> {
        let Upstream { lookups, options, poller, .. } = &*self.upstream;
        let (list, address) = (self.this.clone(), entry.address.clone());
        let on_news = Box::new(move |news| {
            if let Some(list) = list.upgrade() {
                list.hear(&address, &news);
            }
        });
        let name = (entry.address.host(), entry.address.port());
        NameWatch::start(name, lookups.clone(), options.dns_ttl, poller, first, on_news)
    }

    /// Takes in the news of the addresses of this URL's name.
    fn hear(&self, url: &Address, news: &News) {
        let entries = self.entries.lock();
        if *news == News::Addresses {
            self.make_list(&entries, None);
        }
        let all = self.all();
        let Some(backend) = all.iter().find(|backend| backend.address() == url) else { return };
        // The list may say otherwise by now.
        let Some(known) = backend.each().map(<[_]>::len) else { return };
        let name = backend.name();
        match news {
            News::Addresses => {}
            News::Again => log::info!("{name} {url} can be looked up again"),
            News::Failed(reason) if known == 0 => tell_none(backend, reason),
            News::Failed(reason) => {
                log::warn!("{name} {url} can't be looked up ({}): its {} stay", Reason(reason), counted(known));
            }
        }
    }

    fn files_of(&self, local: &LocalOptions) -> Option<Arc<LocalFiles>> {
        local.first()?;
        let files = self.files.read();
        files.iter().find(|(options, _)| options == local).map(|(_, files)| files.clone())
    }
}

impl Room {
    fn beside(entries: &[ListEntry]) -> Room {
        let names = entries.iter().filter(|entry| entry.options.is_each).count();
        Room { legs: BACKENDS_MAX.saturating_sub(entries.len() - names), names }
    }

    /// Takes room for the addresses of the next name, as many as there is for.
    fn take(&mut self, addresses: &mut Vec<SocketAddr>) {
        self.names -= 1;
        addresses.truncate(self.legs.saturating_sub(self.names));
        self.legs -= addresses.len();
    }
}

/// The backends that a race is among.
fn racing_of(all: &[Arc<Backend>]) -> Vec<Arc<Backend>> {
    let listed = || all.iter().filter(|backend| !backend.is_paused());
    let mut racing = Vec::with_capacity(all.len());
    for backend in listed() {
        match backend.each() {
            Some(each) => racing.extend_from_slice(each),
            None => racing.push(backend.clone()),
        }
    }
    // No address of any name is known: legs to the names themselves tell clients why, unless they find one.
    if racing.is_empty() { listed().cloned().collect() } else { racing }
}

/// Tells of the addresses that have come to a backend's name or left it.
fn tell_addresses(backend: &Backend, old: &[Arc<Backend>], addresses: &[SocketAddr], count: usize) {
    let old = || old.iter().filter_map(|old| old.one_address());
    let come = addresses.iter().filter(|address| !old().any(|old| old == **address));
    let gone = old().filter(|old| !addresses.contains(old));
    let changes = come.map(|address| format!("+ {}", address.ip())).chain(gone.map(|old| format!("- {}", old.ip())));
    let changes: Vec<String> = changes.collect();
    if changes.is_empty() {
        return;
    }
    let (name, url, changes) = (backend.name(), backend.address(), changes.join(", "));
    let known = addresses.len();
    if known < count {
        log::warn!("{name} {url} now has {}, of which the first {known} are asked: {changes}", counted(count));
    } else {
        log::info!("{name} {url} now has {}: {changes}", counted(known));
    }
}

/// Tells that no address of a backend's name is known.
fn tell_none(backend: &Backend, reason: &str) {
    log::warn!("{} {} has no address yet: {}", backend.name(), backend.address(), Reason(reason));
}

fn counted(addresses: usize) -> String {
    if addresses == 1 { "1 address".to_owned() } else { format!("{addresses} addresses") }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|backend| backend.address().to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::{Duration, Instant};

    use crossbeam_channel::RecvTimeoutError;

    use super::*;
    use crate::list::load_files;
    use crate::message::{After, parse_entries};
    use crate::metrics::BackendState;
    use crate::runtime::poller::Poller;
    use crate::upstream::{BenchTicket, ConnectOptions, Finding, Lookup, PathKey, PendingRequest, SystemLookup};

    fn backends(list: &str) -> Arc<Backends> {
        backends_by(list, Arc::new(SystemLookup))
    }

    fn backends_by(list: &str, lookup: Arc<dyn Lookup>) -> Arc<Backends> {
        let (poller, _waiter) = Poller::new().expect("a poller");
        let upstream = Upstream::new(ConnectOptions::default(), lookup, poller).expect("no certificates");
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
        assert!(after[1].keeps(&before[0]));
    }

    #[test]
    fn what_an_entry_says_holds_for_each_address_of_its_name() {
        struct Two;

        impl Lookup for Two {
            fn lookup(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![([10, 0, 0, 7], port).into(), ([10, 0, 0, 4], port).into()])
            }
        }

        let backends = backends_by("http://a,http://b/x each after=1s timeout=2s exact", Arc::new(Two));
        let ended = backends.first_lookups().recv_timeout(Duration::from_secs(10));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the lookup has ended, and its news been taken in");
        let before = backends.snapshot();
        let told = |list: &[Arc<Backend>]| list.iter().map(|one| one.full_name().to_owned()).collect::<Vec<_>>();
        assert_eq!(told(&before), ["b1", "b2@10.0.0.4", "b2@10.0.0.7"]);
        for one in &before[1..] {
            assert_eq!((one.name(), one.address().to_string().as_str()), ("b2", "http://b/x"));
            assert_eq!(one.after(), Some(After::Age(Duration::from_secs(1))));
            assert_eq!(one.pool().timeout(), Duration::from_secs(2));
            assert!(one.pool().endpoint().is_exact());
        }
        let pending = PendingRequest::default();
        before[1].breaker().add(&pending, PathKey::of("/"));
        assert_eq!((backends.all()[1].unanswered(), backends.all()[1].state()), (1, BackendState::Racing));
        replace(&backends, "http://b/x each name=x,http://a");
        let after = backends.snapshot();
        assert_eq!(told(&after), ["x@10.0.0.4", "x@10.0.0.7", "b2"]);
        assert!(after[0].keeps(&before[1]) && after[1].keeps(&before[2]));
        assert_eq!((after[0].after(), after[0].pool().timeout()), (None, ConnectOptions::default().timeout));
        assert!(!after[0].pool().endpoint().is_exact());
        replace(&backends, "http://b/x each paused,http://a");
        assert_eq!(told(&backends.snapshot()), ["b2"]);
        assert_eq!(backends.all()[0].state(), BackendState::Paused);
        replace(&backends, "http://b/x,http://a");
        assert_eq!(told(&backends.snapshot()), ["b1", "b2"]);
    }

    #[test]
    fn a_backend_is_in_the_state_that_says_most() {
        let backends = backends("http://a,http://b");
        let one = || backends.all().remove(0);
        assert_eq!(one().state(), BackendState::Racing);
        let pending = PendingRequest::default();
        one().breaker().add(&pending, PathKey::of("/"));
        one().breaker().note_timeout(Instant::now());
        assert_eq!(one().state(), BackendState::Racing);
        assert!(one().breaker().try_find_hung(1, Instant::now()));
        assert_eq!(one().state(), BackendState::Held);
        let ticket = BenchTicket::default();
        let now = Instant::now();
        one().bench().admit(&ticket, Duration::ZERO, true, now);
        one().bench().note(&ticket, Finding::Failure(Some(Duration::from_secs(1))), 2, 0, now);
        assert_eq!(one().state(), BackendState::Benched);
        replace(&backends, "http://a paused,http://b");
        assert_eq!(one().state(), BackendState::Paused);
        replace(&backends, "http://a,http://b");
        assert_eq!(one().state(), BackendState::Benched, "it is kept");
        replace(&backends, "http://b");
        replace(&backends, "http://a,http://b");
        assert_eq!(one().state(), BackendState::Racing, "one that is added again is new");
    }

    /// Was seen as: a token that was changed in a `header-file=` sent the next requests to a backend that was benched.
    #[test]
    fn other_files_cost_a_backend_its_connections_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let list = format!("http://a header-file={},http://b", file.path().display());
        let backends = backends("http://b");
        let read_with = |field: &str| {
            std::fs::write(file.path(), field).expect("room on the disk");
            backends.set_files(load_files(&parse_entries(&list).expect("a list")).expect("good files"));
            replace(&backends, &list);
            backends.all().remove(0)
        };
        let before = read_with("X-Token: old\n");
        let (ticket, pending, now) = (BenchTicket::default(), PendingRequest::default(), Instant::now());
        before.breaker().add(&pending, PathKey::of("/"));
        before.bench().admit(&ticket, Duration::ZERO, true, now);
        before.bench().note(&ticket, Finding::Failure(Some(Duration::from_secs(60))), 2, 0, now);
        assert!(read_with("X-Token: old\n").keeps(&before), "they say what they said");
        let after = read_with("X-Token: new\n");
        assert!(!after.keeps(&before) && !Arc::ptr_eq(after.pool(), before.pool()));
        assert_eq!((after.state(), after.unanswered()), (BackendState::Benched, 1));
        assert!(Arc::ptr_eq(after.stats(), before.stats()));
        assert_eq!(after.pool().endpoint().files().expect("its files").fields[0].1, "new");
    }

    #[test]
    fn options_go_with_the_list_and_not_with_the_backend() {
        let backends = backends("http://a,http://b/x after=1s timeout=2s exact");
        let second = || backends.all().remove(1);
        let before = second();
        assert_eq!(second().after(), Some(After::Age(Duration::from_secs(1))));
        assert_eq!(second().pool().timeout(), Duration::from_secs(2));
        assert!(second().pool().endpoint().is_exact());
        replace(&backends, "http://a,http://b/x after=0s");
        assert_eq!((second().after(), second().pool().timeout()), (None, ConnectOptions::default().timeout));
        assert!(!second().pool().endpoint().is_exact() && second().keeps(&before));
    }

    #[test]
    fn backends_that_wait_for_others_or_are_paused_are_not_asked_at_once() {
        let backends = backends("http://a,http://b after=0s,http://c after=1s,http://d after=p95,http://e paused");
        assert_eq!((backends.count_at_once(), backends.snapshot().len()), (2, 4));
    }

    #[test]
    fn a_paused_backend_is_listed_but_not_raced_and_comes_back_as_it_was() {
        let backends = backends("http://a,http://b,http://c");
        let before = backends.snapshot();
        replace(&backends, "http://a,http://b paused,http://c");
        assert_eq!(shown(&backends.snapshot()), ["b1 http://a", "b3 http://c"]);
        assert_eq!(shown(&backends.all()), ["b1 http://a", "b2 http://b", "b3 http://c"]);
        replace(&backends, "http://a,http://b,http://c");
        assert!(backends.snapshot()[1].keeps(&before[1]));
    }
}
