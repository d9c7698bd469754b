//! The file that a list is kept in: read whole, and replaced whole. Knows nothing of what a change means.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, Statx, StatxAttributes, StatxFlags, access, open, statx};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::local_files::BadFiles;
use super::starts::check_starts;
use super::text::{self, LINE_BYTES_MAX};
use crate::message::{ListEntry, parse_entries, shown_path};

/// The longest file, in bytes: the longest list of the longest entries is 128 KiB, and it may have comments.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The mode of a file that the program creates.
const MODE: u32 = 0o640;
/// May be written by every user of the host.
const WORLD_WRITABLE: u32 = 0o002;
/// A folder's mode by which only who owns a file replaces it, or who owns the folder.
const STICKY: u32 = 0o1000;

/// A file that a list is kept in, and what it held when it was last read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    path: PathBuf,
    /// `None` if it didn't exist.
    text: Option<String>,
    /// The common timeout: the longest that a leg may wait for others.
    timeout: Duration,
}

impl ListFile {
    /// Reads the file at this path; the list is `None` if there is none yet. An error holds a line for each thing that is wrong
    /// with it. Its legs may start as late as the common timeout.
    pub fn open(
        path: impl Into<PathBuf>,
        timeout: Duration,
    ) -> Result<(ListFile, Option<Vec<ListEntry>>), Vec<String>> {
        let mut file = ListFile { path: path.into(), text: None, timeout };
        if file.is_still_missing() {
            return Ok((file, None));
        }
        let (text, entries) = file.read()?;
        file.accept(text);
        Ok((file, Some(entries)))
    }

    /// Whether there is one, so that the list is its own.
    pub fn exists(&self) -> bool {
        self.text.is_some()
    }

    /// Whether it has yet to be created, by a change or by hand: its list is none, which is no fault.
    pub(super) fn is_still_missing(&self) -> bool {
        !self.exists() && matches!(fs::metadata(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads its text, and the list in it. An error holds a line for each thing that is wrong.
    pub(super) fn read(&self) -> Result<(String, Vec<ListEntry>), Vec<String>> {
        let text = read(&self.path).map_err(|reason| vec![format!("{}: {reason}", shown_path(&self.path))])?;
        let entries = self.parsed(&text)?;
        Ok((text, entries))
    }

    /// Takes a text that was read for the file's own, which may be written over from now on: its list is in force.
    pub(super) fn accept(&mut self, text: String) {
        self.text = Some(text);
    }

    /// The sentence against writing over an edit that hasn't been read, or couldn't be taken when it was.
    fn unread(&self, found: &str) -> String {
        let changed = format!("The list is kept in {}, which has changed since it was read", shown_path(&self.path));
        match self.parsed(found).map_err(|bad| (bad.len() - 1, bad.into_iter().next().unwrap_or_default())) {
            Ok(_) => format!("{changed}: send SIGHUP first; if you have, the log says why it was refused"),
            Err((0, bad)) => format!("{changed}, and is bad now ({bad}): mend it and send SIGHUP"),
            Err((more, bad)) => format!("{changed}, and is bad now ({bad}, and {more} more): mend it and send SIGHUP"),
        }
    }

    fn parsed(&self, text: &str) -> Result<Vec<ListEntry>, Vec<String>> {
        let path = shown_path(&self.path);
        let long = (1..).zip(text.split('\n')).filter(|(_, line)| line.len() > LINE_BYTES_MAX);
        let long: Vec<String> =
            long.map(|(line, _)| format!("{path}:{line}: longer than {LINE_BYTES_MAX} bytes")).collect();
        if !long.is_empty() {
            return Err(long);
        }
        match parse_entries(text) {
            Err(bad) => Err(bad.iter().map(|bad| format!("{path}:{}: {bad}", bad.line)).collect()),
            Ok(entries) if entries.is_empty() => Err(vec![format!("{path}: there is no backend in it")]),
            Ok(entries) if entries.iter().all(|entry| entry.options.is_paused) => {
                Err(vec![format!("{path}: every backend in it is paused")])
            }
            Ok(entries) => match check_starts(&entries, self.timeout) {
                Ok(()) => Ok(entries),
                Err(bad) => Err(vec![format!("{path}: {bad}")]),
            },
        }
    }

    /// What is wrong with files that its entries name, each behind the entry's line.
    pub fn located(&self, bad: &[BadFiles]) -> Vec<String> {
        self.located_in(self.text.as_deref().unwrap_or_default(), bad)
    }

    /// What is wrong with files that the entries in this text name, which isn't its own yet.
    pub(super) fn located_in(&self, text: &str, bad: &[BadFiles]) -> Vec<String> {
        let path = shown_path(&self.path);
        bad.iter().map(|bad| format!("{path}:{}: {bad}", line_of(text, bad.index))).collect()
    }

    /// Replaces the list in it, unless it stands there already, and gives the list as it stands there now. Once this returns, the
    /// file survives a crash. An error is a sentence with what to do, and the file is as it was.
    pub(super) fn write(&mut self, entries: &[ListEntry]) -> Result<Vec<ListEntry>, String> {
        let path = shown_path(&self.path);
        let found = match read(&self.path) {
            Ok(text) => Some(text),
            Err(_) if !self.path.exists() => None,
            Err(reason) => return Err(format!("The list is kept in {path}, which can't be read ({reason})")),
        };
        if let Some(found) = found.as_ref().filter(|found| Some(*found) != self.text.as_ref()) {
            return Err(self.unread(found));
        }
        let text = text::rewritten(self.text.as_deref(), entries);
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "The list is kept in {path}, which would be longer than 256 KiB: edit it and send SIGHUP"
            ));
        }
        let entries = self.parsed(&text).map_err(|lines| {
            let lines = lines.join("; ");
            format!("The list is kept in {path}, which would be a bad one ({lines}): edit it and send SIGHUP")
        })?;
        if found.as_ref() != Some(&text) {
            replace(&self.path, &text).map_err(|error| not_written(&path, &error))?;
        }
        self.text = Some(text);
        Ok(entries)
    }
}

/// Checks whether the file could be written, without doing so. An error is the sentence with which writing would fail.
pub(crate) fn check_writable(path: &Path) -> Result<(), String> {
    try_replaceable(path).map_err(|error| not_written(&shown_path(path), &error))
}

/// The line of an entry, from 1, in a good list. None goes on in the next line.
fn line_of(text: &str, index: usize) -> usize {
    let mut count = 0;
    let mut lines = (1..).zip(text.lines());
    let found = lines.find(|(_, line)| {
        count += parse_entries(line).map_or(0, |entries| entries.len());
        count > index
    });
    found.map_or(1, |(number, _)| number)
}

/// Whether the file at this path could be replaced, as far as can be told without trying.
fn try_replaceable(path: &Path) -> io::Result<()> {
    let path = end_of_links(path)?;
    let folder = folder_and_name_of(&path)?.0;
    access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    let found = fs::metadata(folder)?;
    if found.mode() & STICKY != 0 && found.uid() != geteuid().as_raw() {
        // The kernel asks the same for it as for replacing the file there: to own the file, or to have the right of its owner.
        if let Err(Errno::PERM) = open(&path, OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            return Err(Errno::PERM.into());
        }
    }
    let is_mounted = |found: Statx| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    // What the kernel doesn't know, or isn't there yet, isn't mounted.
    match statx(CWD, &path, AtFlags::empty(), StatxFlags::empty()) {
        Ok(found) if is_mounted(found) => Err(Errno::BUSY.into()),
        _ => Ok(()),
    }
}

fn not_written(path: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        // What is mounted can't be replaced by another file.
        io::ErrorKind::ResourceBusy => "mount the folder, not the file",
        // An editor may leave it empty where the disk is full.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        // Its own absence isn't in the way.
        io::ErrorKind::NotFound => "create the folder",
        _ => "edit it and send SIGHUP",
    };
    format!("The list is kept in {path}, which can't be written ({}): {advice}", reason(error))
}

/// The system's words for an error, in lower case and without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn read(path: &Path) -> Result<String, String> {
    let told = |error: io::Error| reason(&error);
    // Before it is opened: opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(told)?;
    if !metadata.is_file() {
        return Err("it isn't a file".to_owned());
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        // Who writes it says where requests go, with all that is in them.
        return Err("every user may write to it; take that away by chmod o-w".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(told)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("it is longer than 256 KiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "it isn't UTF-8".to_owned())
}

/// Puts another file in the place of this one, of the same mode and, where that is permitted, owner, at the end of its symbolic links.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = end_of_links(path)?;
    let (folder, name) = folder_and_name_of(&path)?;
    // Always of this name: what a crash leaves behind is taken away by the next change.
    let new = folder.join(format!(".{}.new", name.to_string_lossy()));
    let _ = fs::remove_file(&new);
    let written = write_new(&new, text, fs::metadata(&path).ok().as_ref());
    match written.and_then(|is_owner_kept| fs::rename(&new, &path).map(|()| is_owner_kept)) {
        Ok(true) => {}
        Ok(false) => {
            log::warn!("{} is this program's own now: its owner or its group can't be kept", shown_path(&path));
        }
        Err(error) => {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
    }
    // The new file is in its place: an error would say that it isn't.
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        log::warn!("cannot flush the folder {}: {error}", shown_path(folder));
    }
    Ok(())
}

fn folder_and_name_of(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    Ok((if folder.as_os_str().is_empty() { Path::new(".") } else { folder }, name))
}

/// Writes a new file of the old one's mode, and gives whether it has its owner and its group, too.
fn write_new(new: &Path, text: &str, old: Option<&fs::Metadata>) -> io::Result<bool> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    let own = file.metadata()?;
    let other = old.filter(|old| (old.uid(), old.gid()) != (own.uid(), own.gid()));
    // Few may give a file away, and who may write to the folder may replace what is in it. Its group is one's own more often.
    let is_owner_kept = other.is_none_or(|old| fchown(&file, Some(old.uid()), Some(old.gid())).is_ok());
    let is_group_kept = is_owner_kept || old.is_none_or(|old| fchown(&file, None, Some(old.gid())).is_ok());
    let mode = old.map_or(MODE, |old| old.mode() & 0o7777);
    // Another group may do no more than all users may: the old mode's rights were meant for the old group.
    let mode = if is_group_kept { mode } else { mode & (!0o070 | (mode & 0o007) << 3) };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(is_owner_kept)
}

/// Where a path leads, also if nothing is there yet.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Ok(path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target))),
            Err(_) => Ok(path.to_owned()),
        },
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn a_refusal_names_the_reason_and_what_to_do() {
        let rows = [
            (Errno::ROFS, "(read-only file system): edit it and send SIGHUP"),
            (Errno::ACCESS, "(permission denied): edit it and send SIGHUP"),
            (Errno::PERM, "(operation not permitted): edit it and send SIGHUP"),
            (Errno::NOSPC, "(no space left on device): make room there"),
            (Errno::BUSY, "(device or resource busy): mount the folder, not the file"),
        ];
        for (errno, expected) in rows {
            let text = not_written("/etc/x", &errno.into());
            assert_eq!(text, format!("The list is kept in /etc/x, which can't be written {expected}"));
        }
    }

    #[test]
    fn the_line_of_an_entry_is_found_among_comments_and_commas() {
        let text = "# http://z\n\nhttp://a,http://b name=b\n  http://c\n# http://y\n\nhttp://d";
        assert_eq!(parse_entries(text).map(|entries| entries.len()), Ok(4));
        assert_eq!([0, 1, 2, 3].map(|index| line_of(text, index)), [3, 3, 4, 7]);
    }

    #[test]
    fn whether_it_could_be_written_is_told_without_writing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        assert_eq!(check_writable(&path), Ok(()), "there is none yet");
        fs::write(&path, "http://a\n").expect("a file");
        assert_eq!(check_writable(&path), Ok(()));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing was written");
        let missing = folder.path().join("no/such/backends");
        let reason = format!(
            "The list is kept in {}, which can't be written (no such file or directory): create the folder",
            missing.display()
        );
        assert_eq!(check_writable(&missing), Err(reason));
    }

    #[test]
    fn a_file_that_cannot_be_a_list_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backends");
        let (too_long, long_line) = ("#".repeat(256 * 1024 + 1), "#".repeat(LINE_BYTES_MAX + 1));
        let long = format!("http://a\n{long_line}\n");
        let rows: [(&str, &[u8], u32, &str); 9] = [
            ("empty", b"", 0o600, ": there is no backend in it"),
            ("only comments", b"# http://a\n", 0o600, ": there is no backend in it"),
            ("all paused", b"http://a paused\nhttp://b paused\n", 0o600, ": every backend in it is paused"),
            ("not UTF-8", b"http://\xff\n", 0o600, ": it isn't UTF-8"),
            ("too long", too_long.as_bytes(), 0o600, ": it is longer than 256 KiB"),
            ("a long line", long.as_bytes(), 0o600, ":2: longer than 4096 bytes"),
            ("of every user", b"http://a\n", 0o666, ": every user may write to it; take that away by chmod o-w"),
            ("a bad line", b"http://a\nb\n", 0o600, ":2: 'b': it must begin with http:// or https://"),
            ("twice", b"http://a\nhttp://a\n", 0o600, ":2: 'http://a': http://a is in the list twice"),
        ];
        for (label, bytes, mode, expected) in rows {
            fs::write(&path, bytes).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a file");
            let lines = ListFile::open(&path, Duration::MAX).expect_err(label);
            assert_eq!(lines, [format!("{}{expected}", path.display())], "{label}");
        }
        assert_eq!(
            ListFile::open(folder.path(), Duration::MAX).expect_err("a folder"),
            [format!("{}: it isn't a file", folder.path().display())]
        );
    }

    #[test]
    fn a_new_file_has_the_old_one_s_mode_and_a_link_stays_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("real"), folder.path().join("link"));
        symlink("real", &link).expect("a link");
        let entries = parse_entries("http://a").expect("a list");
        let (mut file, none) = ListFile::open(&link, Duration::MAX).expect("a link");
        assert_eq!(none, None, "the link leads nowhere yet");
        file.write(&entries).expect("it is created");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o7777, MODE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("a file");
        file.write(&parse_entries("http://b").expect("a list")).expect("it is replaced");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o7777, 0o604);
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        match chown(&path, Some(1234), Some(4321)) {
            Ok(()) => {
                file.write(&parse_entries("http://b name=x").expect("a list")).expect("it is replaced");
                let found = fs::metadata(&path).expect("a file");
                assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 4321, 0o604));
                file.write(&parse_entries("http://b").expect("a list")).expect("it is replaced");
            }
            Err(error) => eprintln!("not tried: a file of another owner ({error})"),
        }
        assert!(fs::read_to_string(&path).expect("a file").ends_with("\nhttp://b\n"));
    }
}
