//! The rules of this repository that a machine can keep. Each rule names the file and the line that break it.

use std::fs;
use std::path::{Path, PathBuf};

use red_tentacle::config;

/// A file of ours: its path from the root of the repository, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// A line of code, numbered from 1, without its comment.
pub type Line<'a> = (usize, &'a str);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// Every file of the tree that is text, without what git and cargo keep there.
fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut paths = vec![root().to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path());
            paths.extend(entries.filter(|entry| !is_foreign(entry)));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("in the tree").to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
    sources
}

fn is_foreign(path: &PathBuf) -> bool {
    *path == root().join(".git") || path.ends_with("target") || path.is_symlink()
}

pub fn sources_in(folder: &str) -> Vec<Source> {
    let is_rust = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "rs");
    let is_inside = |source: &Source| source.path.starts_with(folder) && is_rust(&source.path);
    let sources: Vec<Source> = tree().into_iter().filter(is_inside).collect();
    assert!(!sources.is_empty(), "nothing in {folder}");
    sources
}

impl Source {
    /// The code that goes into the program: without comments and without what is there for tests only.
    pub fn code(&self) -> Vec<Line<'_>> {
        self.split().0
    }

    /// The code that is there for tests only.
    fn tests(&self) -> Vec<Line<'_>> {
        self.split().1
    }

    fn split(&self) -> (Vec<Line<'_>>, Vec<Line<'_>>) {
        let lines = (1..).zip(self.text.lines().map(without_comment));
        if self.path.ends_with("tests.rs") || !self.path.starts_with("src/") {
            return (Vec::new(), lines.collect());
        }
        let (mut code, mut tests) = (Vec::new(), Vec::new());
        // Where an item of tests began, and the line that ends it: a brace as far in as its attribute.
        let mut item: Option<(usize, String)> = None;
        for (number, line) in lines {
            if line.trim_start() == "#[cfg(test)]" {
                item = Some((number, line.replace("#[cfg(test)]", "}")));
            }
            let Some((begin, end)) = &item else {
                code.push((number, line));
                continue;
            };
            tests.push((number, line));
            if line == end || (number == begin + 1 && line.ends_with(';')) {
                item = None;
            }
        }
        (code, tests)
    }

    /// The room that the file belongs to: `downstream` for `src/downstream/h1/head.rs`.
    fn room(&self) -> &str {
        let path = self.path.strip_prefix("src/").expect("a file in src");
        path.split('/').next().expect("a name").trim_end_matches(".rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line }
}

/// Fails with every line that breaks a rule.
pub fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n{}", breaches.join("\n"));
}

/// The lines of code in `src` outside these places that contain one of the words.
fn uses(words: &[&str], places: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources_in("src/").iter().filter(|source| !source.is_in(places)) {
        let lines = source.code();
        let breaching = lines.iter().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        found.extend(breaching.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    found
}

/// The names behind `crate::` in a line.
fn rooms_named(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices("crate::").map(move |(at, path)| {
        let rest = &line[at + path.len()..];
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    })
}

#[test]
fn no_room_imports_from_one_above_it() {
    let map = read("src/lib.rs");
    let rooms: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let floor = |room: &str| rooms.iter().position(|other| *other == room);
    let mut breaches = Vec::new();
    for source in sources_in("src/") {
        let Some(own) = floor(source.room()) else {
            assert!(source.is_in(&["src/lib.rs", "src/main.rs"]), "{} isn't in lib.rs", source.path);
            continue;
        };
        for (number, line) in source.code() {
            for other in rooms_named(line) {
                // A list (`crate::{a, b}`) has no name here, and so is a breach as well.
                if floor(other).is_none_or(|other| other < own) {
                    breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert!(rooms.len() > 10, "{rooms:?}");
    assert_none("a room imports only from rooms below it in lib.rs", &breaches);
}

#[test]
fn libraries_stay_in_their_rooms() {
    let calls = ["src/upstream/client/", "src/upstream/fuzzing/", "src/admin_client.rs"];
    assert_none("ureq is named only where its call is made", &uses(&["ureq::"], &calls));
    let wiring = ["src/server/", "src/main.rs"];
    let words = ["process::exit", "threadpool::", "use threadpool", "signal_hook::", "use signal_hook"];
    assert_none("workers, signals and the exit are server's and main's", &uses(&words, &wiring));
    let sockets = [
        "src/downstream/",
        "src/upstream/",
        "src/net/",
        "src/server/",
        "src/bind.rs",
        "src/systemd.rs",
        "src/demo.rs",
        "src/demo_show.rs",
        "src/trial.rs",
        "src/admin_client.rs",
    ];
    assert_none(
        "sockets are downstream's and upstream's",
        &uses(&["TcpStream", "TcpListener", "socket2::", "rustix::net"], &sockets),
    );
}

#[test]
fn text_from_outside_is_escaped_in_one_place() {
    let escapes = ["escape_debug", "escape_default", "escape_unicode"];
    assert_none("what shows such text is in excerpt.rs", &uses(&escapes, &["src/message/excerpt.rs"]));
}

#[test]
fn the_rules_are_looked_for_where_they_can_be_broken() {
    // Each word is found where it belongs, so the rules above look at code.
    for word in ["ureq::", "process::exit", "threadpool::", "signal_hook::", "TcpStream", "socket2::", "rustix::net"] {
        assert!(!uses(&[word], &[]).is_empty(), "{word}");
    }
    let named: Vec<&str> = rooms_named("use crate::a::{b}; crate::c(); crate::{d, e}").collect();
    assert_eq!(named, ["a", "c", ""]);
}

#[test]
fn code_is_told_from_tests() {
    let text = "\
fn a(
    b: C,
) {
    d();
}
#[cfg(test)]
mod tests;
impl E {
    #[cfg(test)]
    fn f() {
        g();
    }
    pub fn h(&self) {}
}
";
    let source = Source { path: "src/a.rs".to_owned(), text: text.to_owned() };
    let numbers = |lines: Vec<Line>| lines.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(functions(&source.code()), [(1, 5), (13, 1)]);
    assert_eq!(numbers(source.code()), [1, 2, 3, 4, 5, 8, 13, 14]);
    assert_eq!(numbers(source.tests()), [6, 7, 9, 10, 11, 12]);
}

#[test]
fn no_function_is_longer_than_60_lines() {
    let mut breaches = Vec::new();
    for source in sources_in("src/") {
        let long = functions(&source.code()).into_iter().filter(|(_, length)| *length > 60);
        breaches.extend(long.map(|(number, length)| format!("{}:{number}: {length} lines", source.path)));
    }
    assert_none("a function has at most 60 lines", &breaches);
}

/// Where each function begins, and how many lines it has. rustfmt puts its last brace as far in as its first word.
fn functions(code: &[Line]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, (begin, line)) in code.iter().enumerate() {
        let is_function = line.split_whitespace().take(5).any(|word| word == "fn") && line.contains('(');
        if !is_function {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &str| match line.strip_prefix(indent) {
            Some(rest) => rest == "}" || (rest.starts_with(')') && rest.ends_with(';')),
            None => false,
        };
        let is_one_line = line.ends_with(['}', ';']);
        let end = code[at..].iter().find(|(_, line)| is_one_line || ends(line)).expect("every function ends");
        found.push((*begin, end.0 - begin + 1));
    }
    found
}

#[test]
fn no_file_is_longer_than_400_lines_besides_its_tests() {
    let mut breaches = Vec::new();
    for source in sources_in("src/") {
        let tests = source.tests().len();
        let lines = source.text.lines().count() - tests;
        if lines > 400 {
            breaches.push(format!("{}: {lines} lines", source.path));
        }
    }
    assert_none("a file over 400 lines is two subjects", &breaches);
}

#[test]
fn no_test_sleeps() {
    // In two pieces, or this line would be the one that sleeps.
    let words = [concat!("sle", "ep("), concat!("sle", "ep_until("), concat!("park_", "timeout(")];
    let mut breaches = Vec::new();
    for source in ["src/", "tests/", "examples/"].into_iter().flat_map(sources_in) {
        for (number, line) in source.tests() {
            if words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("tests synchronise by gates and channels", &breaches);
}

#[test]
fn prose_speaks_plainly() {
    let breaches: Vec<String> = sources_in("src/").iter().flat_map(vague_words).collect();
    assert_none("comments name things, and use the glossary's words", &breaches);
}

/// Every person that is no thing of the proxy's, every count without a number or a name, and every word that the glossary
/// has replaced.
fn vague_words(source: &Source) -> Vec<String> {
    let persons = ["whoever", "nobody", "somebody", "anybody", "everybody"];
    let counts = ["so many", "so much", "so often", "is here", "are here"];
    let replaced = ["the begin", "the house", "journal", "crowd", "seat", "held back", "called up", "spooler"];
    let words = commented(source);
    let begins_with = |words: &[(usize, String)], phrase: &str| {
        phrase.split(' ').enumerate().all(|(at, part)| words.get(at).is_some_and(|(_, word)| word == part))
    };
    let mut breaches = Vec::new();
    for (at, (number, word)) in words.iter().enumerate() {
        let of_it = persons.iter().chain(&counts).chain(&replaced).filter(|phrase| begins_with(&words[at..], phrase));
        breaches.extend(of_it.map(|phrase| format!("{}:{number}: {phrase}", source.path)));
        if word == DOC_BEGINS && begins_with(&words[at + 1..], "the same") {
            breaches.push(format!("{}:{number}: a comment that needs the one above it", source.path));
        }
    }
    breaches
}

const DOC_BEGINS: &str = "///";

/// The words in comments with the numbers of their lines, in lower case and without punctuation. A word goes before each
/// comment, so that no phrase spans two of them.
fn commented(source: &Source) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut before = "";
    for (number, line) in (1..).zip(source.text.lines().map(str::trim_start)) {
        let mark = ["///", "//!", "//"].into_iter().find(|mark| line.starts_with(mark)).unwrap_or("");
        if mark != before {
            words.push((number, if mark.len() == 3 { DOC_BEGINS.to_owned() } else { String::new() }));
        }
        before = mark;
        if !mark.is_empty() {
            let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            words.extend(line[mark.len()..].split_whitespace().map(|word| (number, plain(word))));
        }
    }
    words
}

#[test]
fn vague_words_are_found_in_comments_alone_and_across_lines() {
    let text = "\
//! The same again. So
//! many of them, whoever they are.
fn a() {
    // It is
    here(\"is here\");
    // As the same, (here) as everybody's.
    /// The
    /// same: crowds and a seat.
}
";
    let source = Source { path: "src/a.rs".to_owned(), text: text.to_owned() };
    let needs = "a comment that needs the one above it";
    let expected = [
        format!("1: {needs}"),
        "1: so many".to_owned(),
        "2: whoever".to_owned(),
        format!("7: {needs}"),
        "8: seat".to_owned(),
    ];
    assert_eq!(vague_words(&source), expected.map(|breach| format!("src/a.rs:{breach}")));
}

#[test]
fn every_flag_is_in_the_page_of_flags_and_in_a_test() {
    let (page, tests) = (read("docs/flags.md"), read("tests/it/flags.rs"));
    let mut breaches = Vec::new();
    for (name, variable) in config::flags() {
        let row = format!("| `--{name}` | `{variable}` |");
        if !page.contains(&row) {
            breaches.push(format!("docs/flags.md: {row}"));
        }
        if !tests.contains(&format!("\"--{name}\"")) {
            breaches.push(format!("tests/it/flags.rs: --{name}"));
        }
    }
    assert_none("every flag is told and tried", &breaches);
}

#[test]
fn every_variable_that_packages_set_is_a_flags() {
    let known: Vec<&str> = config::flags().map(|(_, variable)| variable).collect();
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut breaches = Vec::new();
    let packages: Vec<Source> = tree().into_iter().filter(|source| source.is_in(&["packaging/"])).collect();
    assert!(packages.iter().any(|source| source.text.contains("BACKEND_SERVERS=")), "nothing in packaging");
    for source in packages {
        for (at, _) in source.text.match_indices("RED_TENTACLE_") {
            let variable = source.text[at..].split(|c| !is_name(c)).next().unwrap_or_default();
            if !known.contains(&variable) {
                breaches.push(format!("{}: {variable}", source.path));
            }
        }
    }
    assert_none("a package sets only what there is", &breaches);
}

#[test]
fn the_version_is_the_newest_in_the_changelog() {
    let changelog = read("CHANGELOG.md");
    let mut versions = changelog.lines().filter_map(|line| line.strip_prefix("## [")?.split(']').next());
    let newest = versions.find(|version| !version.eq_ignore_ascii_case("unreleased"));
    assert_eq!(newest, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_path_of_the_makers_host_is_in_the_tree() {
    // In two pieces, or this file would break the rule.
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut breaches = Vec::new();
    for source in tree() {
        for (number, line) in (1..).zip(source.text.lines()) {
            if paths.iter().any(|path| line.contains(path)) {
                breaches.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("the tree works anywhere", &breaches);
}
