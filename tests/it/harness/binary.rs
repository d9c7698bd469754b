//! The program itself as a child process, its standard error read line by line.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};

use super::SOON;

/// A running program, killed when the test is over.
pub struct Binary {
    pub child: Child,
    lines: Receiver<String>,
}

impl Binary {
    /// A command for the program, without this process's own configuration.
    pub fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_red-tentacle"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RED_TENTACLE_") || name == "BACKEND_SERVERS" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts it with these arguments on free ports of the loopback interface.
    pub fn start(arguments: &[&str]) -> Binary {
        let mut command = Binary::command();
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(arguments);
        Binary::spawn(command)
    }

    /// Starts a command and reads its standard error.
    pub fn spawn(mut command: Command) -> Binary {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Binary { child, lines }
    }

    /// Waits for a line that contains the text.
    pub fn line(&self, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_deadline(deadline) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text:?} in {seen:#?}"),
            }
        }
    }

    /// The addresses that it says it listens on: clients' and updates'.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let last = |line: String| line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
        (last(self.line("listens on")), last(self.line("updates are taken on")))
    }

    /// Sends a signal by the system's own program.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the program doesn't end");
            thread::yield_now();
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
