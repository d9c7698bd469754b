//! What is written from the flags (the man page, the completions, docs/flags.md) against them; what packages say against the
//! program; and where the pages' links lead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use red_tentacle::config::{self, Config};

use crate::harness::{Binary, Ended};

/// The example that writes them, which cargo has built beside the tests.
fn generate(arguments: &[&Path]) -> Ended {
    let tests = std::env::current_exe().expect("this test");
    let built = tests.ancestors().nth(2).expect("the target directory").join("examples/generate_docs");
    assert!(built.is_file(), "{} isn't built: run all of `cargo test`", built.display());
    let mut command = Command::new(built);
    command.args(arguments);
    Binary::run(command)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn packaging() -> PathBuf {
    root().join("packaging")
}

/// A file of the tree.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// What people read: every page of the tree, by its path, but for what a run of the benchmark has written.
fn pages() -> Vec<(String, String)> {
    let mut folders = vec![root().to_owned()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if entry.is_dir() && !["target", ".git", "runs", "corpus"].contains(&name) {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "md") {
                let path = entry.strip_prefix(root()).expect("in the tree").to_str().expect("UTF-8").to_owned();
                pages.push((path.clone(), read(&path)));
            }
        }
    }
    assert!(pages.iter().filter(|(path, _)| path.starts_with("docs/")).count() >= 8, "{:?}", pages.len());
    pages
}

#[test]
fn man_page_completions_and_flags_page_are_what_the_flags_say() {
    let ended = generate(&[Path::new("--check")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for name in ["man/red-tentacle.8", "completions/red-tentacle.bash", "completions/_red-tentacle"] {
        let text = fs::read_to_string(packaging().join(name)).expect("a file").replace("\\-", "-");
        for (flag, _) in config::flags() {
            assert!(text.contains(&format!("--{flag}")), "--{flag} in {name}");
        }
    }
}

#[test]
fn a_shell_offers_no_files_for_a_url_and_the_page_no_hyphens_in_what_is_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(generate(&[directory.path()]).code, Some(0));
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("a file");
    let bash = read("packaging/completions/red-tentacle.bash");
    for (flag, offers_files) in [("health", false), ("admin", false), ("update", false), ("ca-file", true)] {
        let case = bash.split(&format!(" --{flag})\n")).nth(1).and_then(|rest| rest.split(";;").next()).expect(flag);
        assert_eq!(case.contains("compgen -f"), offers_files, "--{flag}: {case}");
    }
    for (flag, offered) in [("trusted-proxies", "none"), ("admin-listen", "off"), ("via", "on off")] {
        let case = bash.split(&format!(" --{flag})\n")).nth(1).and_then(|rest| rest.split(";;").next()).expect(flag);
        assert!(case.contains(&format!("compgen -W \"{offered}\"")), "--{flag} offers words alone: {case}");
    }
    let man = read("packaging/man/red-tentacle.8");
    let title = format!(".TH red\\-tentacle 8 \"\" \"red-tentacle {}\" ", env!("CARGO_PKG_VERSION"));
    assert!(man.starts_with(&title), "the version isn't in the date's place");
    let (head, page) = man.split_once(".SH NAME").expect("a name");
    assert!(head.contains("\n.nh\n") && !page.contains("\n.hy"), "hyphens are off from the start");
}

#[test]
fn a_page_that_is_stale_or_missing_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    assert_eq!(generate(&[folder]).code, Some(0));
    assert_eq!(generate(&[folder, Path::new("--check")]).code, Some(0));
    fs::remove_file(folder.join("packaging/completions/red-tentacle.fish")).expect("a file");
    for name in ["packaging/man/red-tentacle.8", "docs/flags.md"] {
        fs::write(folder.join(name), "of yesterday").expect("a file");
    }
    let ended = generate(&[folder, Path::new("--check")]);
    assert_eq!(ended.code, Some(1));
    let rows =
        [("red-tentacle.8", true), ("flags.md", true), ("red-tentacle.fish", true), ("red-tentacle.bash", false)];
    for (name, is_named) in rows {
        assert_eq!(ended.stderr.contains(name), is_named, "{name}: {}", ended.stderr);
    }
}

/// The first number behind each place where the text stands in a file of the tree, in its order.
fn numbers_behind(path: &str, text: &str) -> Vec<u64> {
    let file = read(path);
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    file.split(text).skip(1).map(|rest| digits(rest.trim_start()).parse().expect(text)).collect()
}

#[test]
fn whatever_stops_it_waits_longer_than_the_grace_period() {
    // Was seen as: `docker stop` killed it after 10 s, which an open stream takes.
    let grace_period = Config::new(Vec::new()).grace_period.as_secs();
    let kubernetes = "packaging/kubernetes/red-tentacle.yaml";
    let pause = numbers_behind(kubernetes, "sleep:\n                seconds:");
    let rows = [
        ("packaging/compose.yaml", "stop_grace_period:", 0),
        ("packaging/systemd/red-tentacle.service", "TimeoutStopSec=", 0),
        (kubernetes, "terminationGracePeriodSeconds:", pause[0]),
        ("README.md", "docker run --stop-timeout ", 0),
        ("docs/operations.md", "docker run --stop-timeout ", 0),
    ];
    for (path, key, before) in rows {
        let given = numbers_behind(path, key);
        assert!(!given.is_empty() && given.iter().all(|seconds| *seconds > before + grace_period), "{path}: {given:?}");
    }
    for (path, page) in pages() {
        let runs = |text: &str| page.matches(text).count();
        assert_eq!(runs("docker run --stop-timeout "), runs("docker run "), "{path}: every line that runs it");
    }
}

#[test]
fn packages_carry_the_version_and_a_synopsis_of_one_line() {
    let read = |name: &str| fs::read_to_string(packaging().join(name)).expect("a file");
    let (version, synopsis) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"));
    // Debian's limit is 80; the package tool cuts lines at 79, perhaps with the field's name.
    assert!(synopsis.len() < 79 - "Description: ".len() && !synopsis.contains('\n'), "{synopsis}");
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains(&format!("org.opencontainers.image.version=\"{version}\"")), "{dockerfile}");
    assert!(dockerfile.contains(&format!("org.opencontainers.image.description=\"{synopsis}\"")), "{dockerfile}");
    assert!(read("kubernetes/red-tentacle.yaml").contains(&format!("image: red-tentacle:{version}\n")));
    assert!(read("kubernetes/kustomization.yaml").contains(&format!("newTag: {version}\n")));
}

#[test]
fn the_image_is_asked_for_its_health_where_its_variables_say() {
    let dockerfile = fs::read_to_string(packaging().join("Dockerfile")).expect("a file");
    assert!(dockerfile.contains(r#"CMD ["/red-tentacle", "--health"]"#), "{dockerfile}");
}

#[test]
fn what_only_the_log_or_a_probe_says_is_documented() {
    for (path, told) in [("docs/races.md", "`499`"), ("docs/operations.md", "nothing of backends")] {
        assert!(read(path).contains(told), "{told} in {path}");
    }
    // Debian's pip installs into a folder of its own, and nowhere else.
    let fetching: Vec<_> = pages().into_iter().filter(|(_, text)| text.contains("pip install")).collect();
    assert!(["README.md", "packaging/README.md"].iter().all(|path| fetching.iter().any(|(other, _)| other == path)));
    for (path, text) in fetching {
        let lines = text.lines().filter(|line| line.contains("pip install"));
        let outside: Vec<&str> = lines.filter(|line| !line.starts_with("python3 -m venv target/zig && ")).collect();
        assert!(outside.is_empty() && text.contains("apt install python3-venv"), "{path}: {outside:?}");
    }
}

/// The two commands that CI runs, each alone in a block of its own, before all others.
#[test]
fn readme_begins_with_the_two_commands_that_need_nothing_else() {
    let readme = read("README.md");
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks[..2], ["cargo run --release -- --demo\n", "cargo test\n"]);
}

/// A page without its blocks of code, in which a hash is a comment.
fn prose(page: &str) -> String {
    let outside = page.split("```").step_by(2);
    outside.collect()
}

/// The names by which a page's headings can be linked.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    let headings: Vec<String> = prose(page).lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
    let is_kept = |c: &char| c.is_alphanumeric() || ['-', '_'].contains(c);
    headings.into_iter().map(move |heading| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(is_kept).collect()
    })
}

/// Files of the program by their paths from `src`, and those of the whole tree by theirs.
#[test]
fn every_file_that_a_page_names_is_there() {
    let is_rust = |word: &str| Path::new(word).extension().is_some_and(|extension| extension == "rs");
    let is_file = |word: &&str| is_rust(word) && word.contains('/') && !word.contains([' ', '*', '{']);
    let is_there = |path: &str| [root().join(path), root().join("src").join(path)].iter().any(|path| path.is_file());
    let (mut breaches, mut named) = (Vec::new(), 0);
    for (path, page) in pages() {
        let prose = prose(&page);
        for file in prose.split('`').skip(1).step_by(2).filter(is_file) {
            named += 1;
            if !is_there(file) {
                breaches.push(format!("{path}: {file}"));
            }
        }
    }
    assert!(named > 50, "{named} files are named");
    assert!(breaches.is_empty(), "files that aren't there:\n{}", breaches.join("\n"));
}

#[test]
fn no_link_leads_nowhere() {
    let (mut breaches, mut links) = (Vec::new(), 0);
    for (path, page) in pages() {
        let prose = prose(&page);
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let here = root().join(&path);
            let file = if file.is_empty() { here } else { here.parent().expect("a folder").join(file) };
            let is_there = || anchors(&fs::read_to_string(&file).unwrap_or_default()).any(|anchor| anchor == heading);
            if !file.exists() || !(heading.is_empty() || is_there()) {
                breaches.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(links > 50, "{links} links are looked at");
    assert!(breaches.is_empty(), "links that lead nowhere:\n{}", breaches.join("\n"));
}
