//! The man page and the completions, which packages carry, against the flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use red_tentacle::config;

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
