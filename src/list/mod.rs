//! The list of backends as an operator keeps it: in memory, or in a file that is written before a change is in force. Knows
//! nothing of connections or races, nor of how a change came.

mod change;
mod file;
mod local_files;
mod starts;
mod text;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::message::{ListEntry, shown_path};
use crate::runtime::sync::Mutex;

pub use change::{BadChange, Change, mark_of};
pub use file::ListFile;
pub(crate) use file::check_writable;
pub use local_files::{BadFiles, LoadedFiles, LocalFiles, load_files};
pub use starts::{BadStart, check_starts};

/// Puts a list in force. It must not block for long: a client waits for it.
pub type Publish = Box<dyn Fn(&[ListEntry]) + Send + Sync>;

/// Reads what a list's entries name, before the list is put in force. An error holds all entries with bad files.
pub type Load = Box<dyn Fn(&[ListEntry]) -> Result<(), Vec<BadFiles>> + Send + Sync>;

/// Refuses a list with which a start would fail. An error names the entry, and says what would be right.
pub type Check = Box<dyn Fn(&[ListEntry]) -> Result<(), String> + Send + Sync>;

/// The list in force, and where it is kept.
pub struct BackendList {
    /// Where it is kept, if in a file. Held for as long as a change is made, the disk included.
    file: Mutex<Option<ListFile>>,
    /// Held for moments, so that no look at the list waits for the disk.
    in_force: Mutex<InForce>,
    /// The file's path, which is told without its lock.
    path: Option<PathBuf>,
    publish: Publish,
    load: Load,
    check: Check,
    /// The common timeout: the longest that a leg may wait for others.
    timeout: Duration,
}

struct InForce {
    entries: Vec<ListEntry>,
    changed: SystemTime,
    is_loaded: bool,
}

impl BackendList {
    /// The list to begin with, which is in force already. With a file every later one is written there first, and this one is as old
    /// as what is there.
    pub fn new(entries: Vec<ListEntry>, file: Option<ListFile>, publish: Publish) -> BackendList {
        let written = file.as_ref().and_then(|file| fs::metadata(file.path()).ok()?.modified().ok());
        let in_force = InForce { entries, changed: written.unwrap_or_else(SystemTime::now), is_loaded: true };
        BackendList {
            path: file.as_ref().map(|file| file.path().to_owned()),
            file: Mutex::new(file),
            in_force: Mutex::new(in_force),
            publish,
            load: Box::new(|_| Ok(())),
            check: Box::new(|_| Ok(())),
            timeout: Duration::MAX,
        }
    }

    /// Has the files that entries name read by `load` whenever the list is read again.
    #[must_use]
    pub fn loading_by(self, load: Load) -> BackendList {
        BackendList { load, ..self }
    }

    /// Has lists refused by `check`, too: in a change, and when the file is read again.
    #[must_use]
    pub fn checked_by(self, check: Check) -> BackendList {
        BackendList { check, ..self }
    }

    /// Bounds how late legs may start: by the common timeout.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> BackendList {
        BackendList { timeout, ..self }
    }

    /// Makes these changes in their order, all of them or none, and gives the list that is in force then: what a restart
    /// gives, too, if there is a file. Blocks on the disk.
    pub fn change(&self, changes: Vec<Change>) -> Result<Vec<ListEntry>, BadChange> {
        // Held until the list is in force: else of two changes the first could be the last one there.
        let mut file = self.file.lock();
        let before = self.entries();
        let mut entries = change::applied(&before, changes)?;
        check_starts(&entries, self.timeout).map_err(|bad| change::of_start(bad, &before, &entries))?;
        (self.check)(&entries).map_err(BadChange::Options)?;
        // What changes nothing creates no file, and hides no edit of one.
        if let Some(file) = file.as_mut().filter(|file| entries != before || !file.is_still_missing()) {
            entries = file.write(&entries).map_err(BadChange::NotKept)?;
            // The file was good; what it names has not been read.
            self.in_force.lock().is_loaded |= !name_files(&entries);
        }
        self.put_in_force(&entries);
        Ok(entries)
    }

    /// Reads the file again, and puts its list in force. Without a file, or one that has yet to be created, only what the list names
    /// is read, if it names something; if nothing is, the result is `false`. An error holds a line for each thing that is wrong, and
    /// the list stays. Blocks on the disk.
    pub fn reload(&self) -> Result<bool, Vec<String>> {
        let mut file = self.file.lock();
        let before = self.entries();
        let read = match &*file {
            Some(file) if !file.is_still_missing() => file.read().map(|(text, entries)| (Some(text), entries)),
            _ if name_files(&before) => Ok((None, before)),
            _ => {
                self.in_force.lock().is_loaded = true;
                return Ok(false);
            }
        };
        let read = read.and_then(|read| match (self.check)(&read.1) {
            Ok(()) => Ok(read),
            Err(bad) => Err(vec![format!("{}: {bad}", self.kept_in().unwrap_or_default())]),
        });
        let read = read.and_then(|(text, entries)| match ((self.load)(&entries), &*file, &text) {
            (Ok(()), ..) => Ok((text, entries)),
            (Err(bad), Some(file), Some(text)) => Err(file.located_in(text, &bad)),
            (Err(bad), ..) => Err(bad.iter().map(BadFiles::to_string).collect()),
        });
        self.in_force.lock().is_loaded = read.is_ok();
        let (text, entries) = read?;
        if let (Some(file), Some(text)) = (file.as_mut(), text) {
            file.accept(text);
        }
        self.put_in_force(&entries);
        Ok(true)
    }

    /// To be called under the file's lock.
    fn put_in_force(&self, entries: &[ListEntry]) {
        (self.publish)(entries);
        let mut in_force = self.in_force.lock();
        if in_force.entries != entries {
            in_force.changed = SystemTime::now();
        }
        in_force.entries = entries.to_vec();
    }

    /// The list in force.
    pub fn entries(&self) -> Vec<ListEntry> {
        self.in_force.lock().entries.clone()
    }

    /// The list in force, in its own grammar, a line for each backend.
    pub fn text(&self) -> String {
        change::text_of(&self.entries())
    }

    /// Checks whether a change could be kept, without making one. An error is a sentence with what to do. Blocks on the disk.
    pub fn check_kept(&self) -> Result<(), String> {
        self.path.as_ref().map_or(Ok(()), |path| check_writable(path))
    }

    /// When the list last changed, by a change or in its file.
    pub fn changed(&self) -> SystemTime {
        self.in_force.lock().changed
    }

    /// Whether the last reading of the file was good; without one, it was.
    pub fn is_loaded(&self) -> bool {
        self.in_force.lock().is_loaded
    }

    /// The file that the list is kept in.
    pub fn kept_in(&self) -> Option<String> {
        self.path.as_deref().map(shown_path)
    }
}

/// Whether one of them names a file with what belongs to its backend.
fn name_files(entries: &[ListEntry]) -> bool {
    entries.iter().any(|entry| entry.options.local.names_file())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::message::parse_entries;

    fn texts(entries: &[ListEntry]) -> String {
        entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// The list in the file of this name, and what has been put in force.
    fn list(path: &Path, first: &str) -> (BackendList, Arc<Mutex<Vec<String>>>) {
        let published = Arc::new(Mutex::new(Vec::new()));
        let log = published.clone();
        let publish = move |entries: &[ListEntry]| log.lock().push(texts(entries));
        let (file, entries) = ListFile::open(path, Duration::MAX).expect("a good file");
        let entries = entries.unwrap_or_else(|| parse_entries(first).expect(first));
        (BackendList::new(entries, Some(file), Box::new(publish)), published)
    }

    fn replace(list: &str) -> Vec<Change> {
        vec![Change::Replace(parse_entries(list).expect(list))]
    }

    #[test]
    fn what_is_in_force_is_what_a_restart_gives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "# ours\nhttp://a  name=dc1\n\nhttp://b\n").expect("a file");
        let (list, published) = list(&path, "");
        let in_force = list.change(replace("http://c paused,http://b,http://a")).expect("a good change");
        assert_eq!(texts(&in_force), "http://a name=dc1,http://b,http://c paused", "the order is the file's");
        assert_eq!(
            fs::read_to_string(&path).expect("a file"),
            "# ours\nhttp://a  name=dc1\n\nhttp://b\nhttp://c paused\n"
        );
        assert_eq!(ListFile::open(&path, Duration::MAX).expect("a good file").1, Some(in_force.clone()));
        assert_eq!(*published.lock(), [texts(&in_force)]);
    }

    #[test]
    fn a_change_or_a_file_whose_legs_start_too_late_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (file, entries) = ListFile::open(&path, Duration::from_secs(5)).expect("a good file");
        let publish = Box::new(|_: &[ListEntry]| panic!("nothing is put in force"));
        let list = BackendList::new(entries.expect("a list"), Some(file), publish).with_timeout(Duration::from_secs(5));
        let late = BadStart::TooLate("http://b after=6s".to_owned(), Duration::from_secs(5));
        assert_eq!(list.change(replace("http://a,http://b after=6s")), Err(BadChange::Start(late.clone())));
        assert_eq!(list.change(replace("http://a after=1s")), Err(BadChange::Start(BadStart::NoneAtOnce)));
        fs::write(&path, "http://a\nhttp://b after=6s\n").expect("a file");
        assert_eq!(list.reload(), Err(vec![format!("{}: {late}", path.display())]));
    }

    /// Was seen as: the proxy's own address was taken for a backend and written, and the next start failed by it.
    #[test]
    fn what_would_stop_a_start_is_neither_taken_nor_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (list, published) = list(&path, "");
        let list = list.checked_by(Box::new(|entries| match entries {
            [_] => Ok(()),
            _ => Err("'http://own': not that".to_owned()),
        }));
        assert_eq!(
            list.change(replace("http://a,http://own")),
            Err(BadChange::Options("'http://own': not that".to_owned()))
        );
        assert_eq!(fs::read_to_string(&path).expect("a file"), "http://a\n");
        fs::write(&path, "http://a\nhttp://own\n").expect("a file");
        assert_eq!(list.reload(), Err(vec![format!("{}: 'http://own': not that", path.display())]));
        assert!(published.lock().is_empty() && !list.is_loaded());
    }

    #[test]
    fn the_first_change_creates_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let (list, _) = list(&path, "http://a");
        assert!(!path.exists());
        list.change(replace("http://b name=x,http://a")).expect("a good change");
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with('#') && text.ends_with("\nhttp://b name=x\nhttp://a\n"), "{text}");
        let names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").flatten().map(|file| file.file_name()).collect();
        assert_eq!(names, ["backends"], "nothing else is left");
    }

    #[test]
    fn a_change_that_cannot_be_kept_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let (list, published) = list(&folder.path().join("no/such/backends"), "http://a");
        let refused = list.change(replace("http://b")).expect_err("there is no such folder");
        let BadChange::NotKept(reason) = refused else { panic!("{refused:?}") };
        let expected = format!(
            "The list is kept in {}/no/such/backends, which can't be written (no such file or directory): create the folder",
            folder.path().display()
        );
        assert_eq!(reason, expected);
        assert!(published.lock().is_empty());
        assert!(list.change(replace("http://a")).is_ok(), "nothing would be written");
    }

    #[test]
    fn an_edit_that_has_not_been_read_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (list, published) = list(&path, "");
        fs::write(&path, "http://a\nhttp://mine\n").expect("a file");
        let refused = list.change(replace("http://b"));
        assert!(
            matches!(&refused, Err(BadChange::NotKept(reason)) if reason.contains("has changed since it was read: send SIGHUP first")),
            "{refused:?}"
        );
        assert_eq!(list.reload(), Ok(true));
        list.change(vec![Change::Add(parse_entries("http://b").expect("a list"))]).expect("a good change");
        assert_eq!(*published.lock(), ["http://a,http://mine", "http://a,http://mine,http://b"]);
    }

    /// Was seen as: "send SIGHUP first", which had been sent, and had told the log what was wrong.
    #[test]
    fn a_change_says_what_is_wrong_with_an_edit_that_could_not_be_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (list, _) = list(&path, "");
        let bad = format!("{}:2: 'x': it must begin with http:// or https://", path.display());
        for (edit, more) in [("http://a\nx\n", ""), ("http://a\nx\ny\nz\n", ", and 2 more")] {
            fs::write(&path, edit).expect("a file");
            assert!(list.reload().is_err());
            let Err(BadChange::NotKept(told)) = list.change(replace("http://b")) else { panic!("it was taken") };
            let expected =
                format!("which has changed since it was read, and is bad now ({bad}{more}): mend it and send SIGHUP");
            assert!(told.ends_with(&expected), "{told}");
        }
    }

    #[test]
    fn an_edit_whose_files_are_bad_has_not_been_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (list, published) = list(&path, "");
        let list = list.loading_by(Box::new(|_| {
            let reason = "ca=/no/such: cannot read it".to_owned();
            Err(vec![BadFiles { index: 0, reason }])
        }));
        let edited = "http://a\nhttps://mine ca=/no/such\n";
        fs::write(&path, edited).expect("a file");
        assert!(list.reload().is_err() && !list.is_loaded());
        let Err(BadChange::NotKept(told)) = list.change(replace("http://b")) else { panic!("it was taken") };
        assert!(told.ends_with("if you have, the log says why it was refused"), "{told}");
        assert_eq!(fs::read_to_string(&path).expect("a file"), edited);
        assert!(published.lock().is_empty());
    }

    /// Was seen as: what changes nothing was taken while the file said something else, and what changes something was not.
    #[test]
    fn what_changes_nothing_hides_no_edit_and_creates_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let (list, published) = list(&path, "http://a,http://b paused");
        let pause = || list.change(vec![Change::Pause("b2".to_owned())]);
        pause().expect("a good change");
        assert!(!path.exists());
        let edits = ["http://a\n", "http://a\nhttp://b paused\n", "http://a\nhttp://b paused\n# mine\n"];
        for edit in edits {
            fs::write(&path, edit).expect("a file");
            assert!(matches!(pause(), Err(BadChange::NotKept(_))), "{edit}");
            assert_eq!(fs::read_to_string(&path).expect("a file"), edit);
        }
        assert_eq!(list.reload(), Ok(true));
        pause().expect("a good change");
        assert_eq!(fs::read_to_string(&path).expect("a file"), edits[2]);
        fs::remove_file(&path).expect("a file");
        pause().expect("a good change");
        assert_eq!(fs::read_to_string(&path).expect("it is what is in force"), edits[2]);
        assert_eq!(published.lock().len(), 4);
    }

    /// Was seen as: the hook of certificates had the list's file read, which was an error and an alert until the next SIGHUP,
    /// whatever was written meanwhile.
    #[test]
    fn a_file_that_has_yet_to_be_created_is_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let (list, published) = list(&path, "http://a,http://b");
        assert_eq!((list.reload(), list.is_loaded(), published.lock().len()), (Ok(false), true, 0));
        fs::write(&path, "x\n").expect("a file");
        assert!(list.reload().is_err() && !list.is_loaded());
        fs::remove_file(&path).expect("a file");
        assert_eq!((list.reload(), list.is_loaded()), (Ok(false), true));
        fs::write(&path, "x\n").expect("a file");
        assert!(list.reload().is_err() && !list.is_loaded());
        fs::remove_file(&path).expect("a file");
        list.change(replace("http://a")).expect("a good change");
        assert!(list.is_loaded() && path.exists());
        fs::remove_file(&path).expect("a file");
        assert!(list.reload().is_err() && !list.is_loaded(), "there has been one");
        list.change(replace("http://b")).expect("a good change");
        assert!(list.is_loaded() && path.exists());
    }

    #[test]
    fn files_that_entries_name_are_read_also_where_the_list_has_no_file_yet() {
        let folder = tempfile::tempdir().expect("a folder");
        let (list, published) = list(&folder.path().join("backends"), "http://a header-file=/no/such");
        let bad = Arc::new(Mutex::new(true));
        let is_bad = bad.clone();
        let load = move |_: &[ListEntry]| {
            let reason = "header-file=/no/such: cannot read it".to_owned();
            if *is_bad.lock() { Err(vec![BadFiles { index: 0, reason }]) } else { Ok(()) }
        };
        let list = list.loading_by(Box::new(load));
        assert_eq!(list.reload(), Err(vec!["header-file=/no/such: cannot read it".to_owned()]));
        list.change(vec![Change::Add(parse_entries("http://b").expect("a list"))]).expect("a good change");
        assert!(!list.is_loaded(), "its header file is as bad as before");
        *bad.lock() = false;
        assert_eq!((list.reload(), list.is_loaded(), published.lock().len()), (Ok(true), true, 2));
    }

    #[test]
    fn a_list_is_as_old_as_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let file = fs::File::create(&path).expect("a file");
        fs::write(&path, "http://a\n").expect("a file");
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600);
        file.set_modified(then).expect("a time");
        let (list, _) = list(&path, "");
        assert_eq!(list.changed(), then);
        list.change(replace("http://b")).expect("a good change");
        assert!(list.changed() > then);
    }

    #[test]
    fn a_bad_file_is_told_line_by_line_and_the_list_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        fs::write(&path, "http://a\n").expect("a file");
        let (list, published) = list(&path, "");
        fs::write(&path, "http://a\nx\n# y\nhttp://b aftr=2s\n").expect("a file");
        let shown = path.display();
        let expected = vec![
            format!("{shown}:2: 'x': it must begin with http:// or https://"),
            format!("{shown}:4: 'http://b aftr=2s': no option 'aftr'; did you mean 'after'?"),
        ];
        assert_eq!((list.reload(), list.is_loaded()), (Err(expected), false));
        fs::remove_file(&path).expect("a file");
        assert_eq!(list.reload(), Err(vec![format!("{shown}: no such file or directory")]));
        fs::write(&path, "http://b\n").expect("a file");
        assert_eq!((list.reload(), list.is_loaded()), (Ok(true), true));
        assert_eq!(*published.lock(), ["http://b"]);
    }

    /// Was seen as: the line with all of them grew too long, the file was replaced by one that can't be read, and the change refused.
    #[test]
    fn a_change_never_leaves_a_file_that_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let urls: Vec<String> = (1..=64).map(|number| format!("http://{number:047}.example")).collect();
        fs::write(&path, urls.join(",") + "\n").expect("a file");
        let (list, _) = list(&path, "");
        list.change(vec![Change::Pause(urls[0].clone())]).expect("a good change");
        assert_eq!(ListFile::open(&path, Duration::MAX).expect("a good file").1, Some(list.entries()));
        assert_eq!(fs::read_to_string(&path).expect("a file").lines().count(), 64);
    }

    #[test]
    fn what_is_said_again_is_no_change_of_the_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let (list, published) = list(&folder.path().join("backends"), "http://a,http://b");
        let before = list.changed();
        list.change(replace("http://a,http://b")).expect("a good change");
        assert_eq!((list.changed(), published.lock().len()), (before, 1));
        list.change(replace("http://a")).expect("a good change");
        assert!(list.changed() > before);
    }

    /// A disk that hangs must not keep probes and scrapes waiting.
    #[test]
    fn who_looks_waits_for_nobody_who_changes() {
        let (begun, (go_on, gate)) = (std::sync::Barrier::new(2), std::sync::mpsc::channel());
        let (begun, gate) = (Arc::new(begun), Mutex::new(gate));
        let publish = {
            let begun = begun.clone();
            move |_: &[ListEntry]| {
                begun.wait();
                gate.lock().recv().expect("the test goes on");
            }
        };
        let list = BackendList::new(parse_entries("http://a").expect("a list"), None, Box::new(publish));
        std::thread::scope(|scope| {
            scope.spawn(|| list.change(replace("http://b")).expect("a good change"));
            begun.wait();
            assert_eq!((list.text(), list.is_loaded(), list.kept_in()), ("http://a".to_owned(), true, None));
            go_on.send(()).expect("the change waits");
        });
        assert_eq!(list.text(), "http://b");
    }
}
