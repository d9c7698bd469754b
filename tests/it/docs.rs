//! The man page and the completions, which packages carry, against the flags; and what packages say against the program.

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

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

#[test]
fn man_page_and_completions_are_what_the_flags_say() {
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
    let bash = read("completions/red-tentacle.bash");
    for (flag, offers_files) in [("health", false), ("admin", false), ("update", false), ("ca-file", true)] {
        let case = bash.split(&format!(" --{flag})\n")).nth(1).and_then(|rest| rest.split(";;").next()).expect(flag);
        assert_eq!(case.contains("compgen -f"), offers_files, "--{flag}: {case}");
    }
    for (flag, offered) in [("trusted-proxies", "none"), ("admin-listen", "off"), ("via", "on off")] {
        let case = bash.split(&format!(" --{flag})\n")).nth(1).and_then(|rest| rest.split(";;").next()).expect(flag);
        assert!(case.contains(&format!("compgen -W \"{offered}\"")), "--{flag} offers words alone: {case}");
    }
    let man = read("man/red-tentacle.8");
    let title = format!(".TH red\\-tentacle 8 \"\" \"red-tentacle {}\" ", env!("CARGO_PKG_VERSION"));
    assert!(man.starts_with(&title), "the version isn't in the date's place");
    let (head, page) = man.split_once(".SH NAME").expect("a name");
    assert!(head.contains("\n.nh\n") && !page.contains("\n.hy"), "hyphens are off from the begin");
}

#[test]
fn a_page_that_is_stale_or_missing_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    assert_eq!(generate(&[folder]).code, Some(0));
    assert_eq!(generate(&[folder, Path::new("--check")]).code, Some(0));
    fs::remove_file(folder.join("completions/red-tentacle.fish")).expect("a file");
    fs::write(folder.join("man/red-tentacle.8"), "of yesterday").expect("a file");
    let ended = generate(&[folder, Path::new("--check")]);
    assert_eq!(ended.code, Some(1));
    for (name, is_named) in [("red-tentacle.8", true), ("red-tentacle.fish", true), ("red-tentacle.bash", false)] {
        assert_eq!(ended.stderr.contains(name), is_named, "{name}: {}", ended.stderr);
    }
}

/// The first number behind each place where the text stands in a file of the tree, in its order.
fn numbers_behind(path: &str, text: &str) -> Vec<u64> {
    let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
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
    ];
    for (path, key, before) in rows {
        let given = numbers_behind(path, key);
        assert!(!given.is_empty() && given.iter().all(|seconds| *seconds > before + grace_period), "{path}: {given:?}");
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a file");
    let runs = |text: &str| readme.matches(text).count();
    assert_eq!(runs("docker run --stop-timeout "), runs("docker run "), "every line that runs it");
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
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a file");
    assert!(readme.contains("`499`") && readme.contains("nothing of backends"));
    // Debian's pip installs into a folder of its own, and nowhere else.
    for text in [readme, fs::read_to_string(packaging().join("README.md")).expect("a file")] {
        let lines = text.lines().filter(|line| line.contains("pip install"));
        let outside: Vec<&str> = lines.filter(|line| !line.starts_with("python3 -m venv target/zig && ")).collect();
        assert!(outside.is_empty() && text.contains("apt install python3-venv"), "{outside:?}");
    }
}
