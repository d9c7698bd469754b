//! What a list becomes by changes. Knows nothing of where it is kept.

use super::starts::BadStart;
use crate::message::{Address, After, BACKENDS_MAX, EntryOptions, Excerpt, ListEntry, fnv1a};

/// Complaint about a socket's path.
const SOCKET: &str = "'socket' can only be given in the file, the flag or the environment";

/// One change of a list. An entry without options says who is in, not how: what was said of its backend stays. One with
/// options sets exactly those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// None of them all, unless the list has this mark: its sender hasn't seen what else has changed.
    Seen(String),
    /// These are the list.
    Replace(Vec<ListEntry>),
    /// These are in it, too.
    Add(Vec<ListEntry>),
    /// The backend of this name or address isn't any more.
    Remove(String),
    /// It sits races out.
    Pause(String),
    /// It takes part again.
    Resume(String),
}

/// The reason against a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadChange {
    /// The list isn't the one that the sender saw.
    Unseen,
    /// No backend has this name or address; those that there are.
    Unlisted(String, Vec<String>),
    /// Two would have this name.
    SameName(String),
    /// No backend would be left that takes part; those of them that sat out before.
    NothingLeft(Vec<String>),
    /// Legs would start too late, or none at once.
    Start(BadStart),
    /// No leg would start at once: the backend of this name keeps its `after`, which may well not have been written just now.
    KeptAfter(String, After),
    /// This option can't be set by a change.
    Local(&'static str),
    /// This entry can't be used, and why: its options wouldn't go with each other, say.
    Options(String),
    /// There would be too many.
    TooMany(usize),
    /// The file can't be written, and why, in a sentence.
    NotKept(String),
}

/// A backend in a list that is being changed, and the name that its list had for it before: a change speaks of what its sender
/// saw, so a place doesn't move under it.
struct Listed {
    entry: ListEntry,
    name: Option<String>,
}

/// A short mark of a list as it is written, that another one hasn't.
pub fn mark_of(text: &str) -> String {
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// The list as it is written, a line for each backend.
pub(super) fn text_of(entries: &[ListEntry]) -> String {
    entries.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The list after these changes.
pub(super) fn applied(entries: &[ListEntry], changes: Vec<Change>) -> Result<Vec<ListEntry>, BadChange> {
    let before = entries.iter().enumerate();
    let mut list: Vec<Listed> =
        before.map(|(index, entry)| Listed { entry: entry.clone(), name: Some(entry.name_at(index)) }).collect();
    for change in changes {
        check_local(&list, &change)?;
        match change {
            Change::Seen(mark) if mark != mark_of(&text_of(entries)) => return Err(BadChange::Unseen),
            Change::Seen(_) => {}
            Change::Replace(entries) => {
                let mut old = std::mem::take(&mut list);
                list = entries.into_iter().map(|entry| merged(&mut old, entry)).collect();
            }
            Change::Add(entries) => {
                for entry in entries {
                    add(&mut list, entry);
                }
            }
            Change::Remove(who) => {
                let at = place_of(&list, &who)?;
                list.remove(at);
            }
            Change::Pause(who) => pause(&mut list, &who, true)?,
            Change::Resume(who) => pause(&mut list, &who, false)?,
        }
    }
    let after = checked(list.into_iter().map(|listed| listed.entry).collect())?;
    if after.iter().all(|entry| entry.options.is_paused) {
        return Err(BadChange::NothingLeft(still_paused(entries, &after)));
    }
    Ok(after)
}

/// The reason against the start of a list's legs, after a change of the one `before`.
pub(super) fn of_start(bad: BadStart, before: &[ListEntry], after: &[ListEntry]) -> BadChange {
    let is_kept = |(_, entry): &(usize, &ListEntry)| {
        after.iter().any(|other| other.address == entry.address && other.options.after == entry.options.after)
    };
    let mut kept = before.iter().enumerate().filter(is_kept);
    let kept = kept.find_map(|(index, entry)| Some((entry.name_at(index), entry.options.after?)));
    match (bad, kept) {
        (BadStart::NoneAtOnce, Some((name, after))) => BadChange::KeptAfter(name, after),
        (bad, _) => BadChange::Start(bad),
    }
}

/// The names of those that were paused before a change and still are.
fn still_paused(before: &[ListEntry], after: &[ListEntry]) -> Vec<String> {
    let is_still =
        |entry: &ListEntry| entry.options.is_paused && after.iter().any(|listed| listed.address == entry.address);
    let names = before.iter().enumerate().filter(|(_, entry)| is_still(entry));
    names.map(|(index, entry)| entry.name_at(index)).collect()
}

/// Refuses options that name files and sockets of this host, but where they are what they were: who may update needn't be one who may
/// say which of them are opened.
fn check_local(list: &[Listed], change: &Change) -> Result<(), BadChange> {
    let (Change::Replace(entries) | Change::Add(entries)) = change else { return Ok(()) };
    for ListEntry { address, options } in entries {
        let before = list.iter().find(|listed| listed.entry.address == *address).map(|listed| &listed.entry.options);
        if let Some(option) = options.local.first()
            && before.is_none_or(|before| before.local != options.local)
        {
            return Err(BadChange::Local(option));
        }
        if options.socket.is_some() && before.is_none_or(|before| before.socket != options.socket) {
            return Err(BadChange::Options(format!("'{}': {SOCKET}", Excerpt(&address.to_string()))));
        }
    }
    Ok(())
}

/// Adds an entry, or sets its options where its address is listed.
fn add(list: &mut Vec<Listed>, entry: ListEntry) {
    match list.iter_mut().find(|listed| listed.entry.address == entry.address) {
        Some(listed) => listed.set(entry.options),
        None => list.push(Listed { entry, name: None }),
    }
}

fn pause(list: &mut [Listed], who: &str, is_paused: bool) -> Result<(), BadChange> {
    let at = place_of(list, who)?;
    list[at].entry.options.is_paused = is_paused;
    Ok(())
}

impl Listed {
    fn set(&mut self, options: EntryOptions) {
        if options.name.is_some() {
            self.name.clone_from(&options.name);
        }
        self.entry.options = options.or(&self.entry.options);
    }
}

/// A backend of a new list, with what the old one has said of it.
fn merged(old: &mut Vec<Listed>, entry: ListEntry) -> Listed {
    match old.iter().position(|listed| listed.entry.address == entry.address) {
        Some(at) => {
            let mut listed = old.swap_remove(at);
            listed.set(entry.options);
            listed
        }
        None => Listed { entry, name: None },
    }
}

fn place_of(list: &[Listed], who: &str) -> Result<usize, BadChange> {
    let who = who.trim();
    let address = Address::parse(who).ok();
    let is_it = |listed: &Listed| {
        listed.name.as_deref().or(listed.entry.options.name.as_deref()) == Some(who)
            || address.as_ref() == Some(&listed.entry.address)
    };
    list.iter().position(is_it).ok_or_else(|| {
        let names = list.iter().map(|listed| {
            let name = listed.name.as_ref().or(listed.entry.options.name.as_ref());
            name.cloned().unwrap_or_else(|| listed.entry.address.to_string())
        });
        BadChange::Unlisted(who.to_owned(), names.collect())
    })
}

fn checked(entries: Vec<ListEntry>) -> Result<Vec<ListEntry>, BadChange> {
    for (index, entry) in entries.iter().enumerate() {
        entry.check().map_err(|reason| BadChange::Options(format!("'{}': {reason}", Excerpt(&entry.to_string()))))?;
        let Some(name) = &entry.options.name else { continue };
        if entries[..index].iter().any(|other| other.options.name.as_ref() == Some(name)) {
            return Err(BadChange::SameName(name.clone()));
        }
    }
    if entries.len() > BACKENDS_MAX {
        return Err(BadChange::TooMany(entries.len()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse_entries;

    fn entries(list: &str) -> Vec<ListEntry> {
        parse_entries(list).expect(list)
    }

    /// The list after changes such as `pause=dc1`.
    fn after(list: &str, changes: &[&str]) -> Result<String, BadChange> {
        let change = |text: &&str| match text.split_once('=').expect("a verb") {
            ("replace", list) => Change::Replace(entries(list)),
            ("add", list) => Change::Add(entries(list)),
            ("remove", who) => Change::Remove(who.to_owned()),
            ("pause", who) => Change::Pause(who.to_owned()),
            ("resume", who) => Change::Resume(who.to_owned()),
            other => panic!("{other:?}"),
        };
        let applied = applied(&entries(list), changes.iter().map(change).collect())?;
        Ok(applied.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_list_is_changed_in_order() {
        let list = "http://a name=dc1,http://b paused,http://c";
        let rows: [(&str, &[&str], &str); 15] = [
            ("nothing", &[], list),
            (
                "bare URLs say who, not how",
                &["replace=http://b,http://a,http://d"],
                "http://b paused,http://a name=dc1,http://d",
            ),
            (
                "options set what they name",
                &["replace=http://a paused,http://b name=x,http://c"],
                "http://a name=dc1 paused,http://b name=x paused,http://c",
            ),
            ("a new one", &["add=http://d name=dc4"], "http://a name=dc1,http://b paused,http://c,http://d name=dc4"),
            ("one that is there", &["add=http://b name=dc2"], "http://a name=dc1,http://b name=dc2 paused,http://c"),
            (
                "when it starts stays, too",
                &["add=http://c after=p95 timeout=1s", "replace=http://c,http://a", "add=http://c after=0s"],
                "http://c after=0s timeout=1s,http://a name=dc1",
            ),
            ("another name", &["add=http://a name=x"], "http://a name=x,http://b paused,http://c"),
            ("by name", &["remove=dc1"], "http://b paused,http://c"),
            ("by URL", &["remove=HTTP://B:80/"], "http://a name=dc1,http://c"),
            ("by place", &["remove=b3"], "http://a name=dc1,http://b paused"),
            ("places are those of before", &["remove=dc1", "resume=b2", "remove=b3"], "http://b"),
            ("pause", &["pause=dc1"], "http://a name=dc1 paused,http://b paused,http://c"),
            ("resume", &["resume=b2", "pause=b3"], "http://a name=dc1,http://b,http://c paused"),
            ("the last one, exchanged", &["remove=dc1", "remove=b2", "remove=b3", "add=http://d"], "http://d"),
            (
                "a name that is free again",
                &["remove=dc1", "add=http://d name=dc1"],
                "http://b paused,http://c,http://d name=dc1",
            ),
        ];
        for (label, changes, expected) in rows {
            assert_eq!(after(list, changes), Ok(expected.to_owned()), "{label}");
        }
    }

    #[test]
    fn a_bad_change_is_refused_whole() {
        let unlisted = |who: &str, names: &[&str]| {
            BadChange::Unlisted(who.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        };
        let many = (1..=63).map(|number| format!("http://m{number}")).collect::<Vec<_>>().join(",");
        let many = format!("add={many}");
        let list = "http://a name=dc1,http://b paused";
        let nothing_but = |paused: &[&str]| BadChange::NothingLeft(paused.iter().map(ToString::to_string).collect());
        let rows: [(&str, &[&str], BadChange); 10] = [
            ("not there", &["pause=dc9"], unlisted("dc9", &["dc1", "b2"])),
            ("a name in another case", &["pause=DC1"], unlisted("DC1", &["dc1", "b2"])),
            ("behind a good one", &["remove=dc1", "remove=dc1"], unlisted("dc1", &["b2"])),
            (
                "a place that a new one will have",
                &["add=http://c", "pause=b3"],
                unlisted("b3", &["dc1", "b2", "http://c"]),
            ),
            ("a name twice", &["add=http://c name=dc1"], BadChange::SameName("dc1".to_owned())),
            ("all paused", &["pause=dc1"], nothing_but(&["b2"])),
            ("one that stays paused", &["replace=http://b"], nothing_but(&["b2"])),
            ("one that is paused by it", &["remove=b2", "pause=dc1"], nothing_but(&[])),
            ("none left", &["remove=dc1", "remove=b2"], nothing_but(&[])),
            ("a 65th", &[&many], BadChange::TooMany(65)),
        ];
        for (label, changes, expected) in rows {
            assert_eq!(after(list, changes), Err(expected), "{label}");
        }
    }

    /// The page shows the list with its sockets, and has it sent back.
    #[test]
    fn a_socket_stays_what_it_was_and_cannot_be_given() {
        let list = "http://a socket=/run/a,http://b";
        let same = "http://a socket=/run/a,http://b name=x";
        assert_eq!(after(list, &[&format!("replace={same}")]), Ok(same.to_owned()));
        let refused = |url: &str| Err(BadChange::Options(format!("'{url}': {SOCKET}")));
        assert_eq!(after(list, &["add=http://a socket=/run/other"]), refused("http://a"));
        assert_eq!(after(list, &["add=http://c socket=/run/a"]), refused("http://c"));
        let both = "'http://a each socket=/run/a': 'each' is for the addresses of a name, and 'socket' takes their place; leave one out";
        assert_eq!(after(list, &["add=http://a each"]), Err(BadChange::Options(both.to_owned())));
    }
}
