//! A test with a process for itself: all others share one, and its threads and descriptors.

use std::process::Command;

use super::Binary;

/// Set for a process that has a test for itself.
const ALONE: &str = "TENTACLE_TEST_ALONE";

/// Whether this process is the test's own. If it isn't, the test has been run in one of its own, and has passed there: nothing
/// is left to do. The name is the test's whole one: `drain::a_fact`.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", test]).env(ALONE, "1");
    let ended = Binary::run(command);
    assert!(ended.code == Some(0) && ended.stdout.contains("1 passed"), "{}{}", ended.stdout, ended.stderr);
    false
}
