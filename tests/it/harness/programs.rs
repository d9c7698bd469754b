//! Other programs, as clients: run where they are installed, and without the environment's proxies.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use super::tell_skipped;

/// Whether a program can be run here.
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(
            std::env::var_os("TENTACLE_TEST_CLIENTS").is_none() || !["curl", "python3"].contains(&program),
            "{program} is to be tried, but isn't installed"
        );
        tell_skipped(&format!("{program} isn't installed"));
    }
    found
}

/// What a program wrote to its standard output. It must end well, and gets `input` on its standard input.
pub fn output(command: Command, input: &[u8]) -> Vec<u8> {
    let (status, stdout, stderr) = ended(command, input);
    assert!(status.success(), "{status}: {stderr}");
    stdout
}

/// How a program ended, and what it wrote to its standard output and to standard error.
pub fn ended(mut command: Command, input: &[u8]) -> (ExitStatus, Vec<u8>, String) {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writing = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the program ends");
    writing.join().expect("no panic");
    (output.status, output.stdout, text(output.stderr))
}

pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}
