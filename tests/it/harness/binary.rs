//! The program itself as a child process, what it writes read line by line.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, never, unbounded};

use super::{SOON, eventually};

/// A running program, killed when the test is over.
pub struct Binary {
    pub child: Child,
    /// The lines on its standard output.
    pub printed: Receiver<String>,
    lines: Receiver<String>,
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Binary {
    /// A command for the program, without this process's own configuration.
    pub fn command() -> Command {
        without_configuration(Command::new(env!("CARGO_BIN_EXE_red-tentacle")))
    }

    /// The same, run by a shell that first redirects something: `2>&-`.
    pub fn command_with_redirection(redirection: &str) -> Command {
        Binary::command_in_shell(&format!("exec \"$0\" \"$@\" {redirection}"))
    }

    /// The same, told by systemd's variable that its standard error leads to the journal.
    pub fn command_to_journal() -> Command {
        Binary::command_in_shell("export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) && exec \"$0\" \"$@\"")
    }

    /// The same, run by a shell that first lowers a limit: `-n 40`.
    pub fn command_with_limit(limit: &str) -> Command {
        Binary::command_in_shell(&format!("ulimit {limit} && exec \"$0\" \"$@\""))
    }

    /// The same, in a mount namespace of its own, after a shell's mounts; `None` where this host allows no such thing.
    pub fn command_with_mounts(mounts: &str) -> Option<Command> {
        let unshared = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--mount", "sh", "-ec", script, env!("CARGO_BIN_EXE_red-tentacle")]);
            without_configuration(command)
        };
        let tried = unshared("mount -t tmpfs none /mnt").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| unshared(&format!("{mounts}; exec \"$0\" \"$@\"")))
    }

    /// The same before these backends, at a terminal that its standard output shows: first its process's number. It ends with the
    /// terminal.
    pub fn command_at_terminal(backends: &str) -> Command {
        let line =
            format!("echo it is process $$; exec setpriv --pdeathsig KILL {}", env!("CARGO_BIN_EXE_red-tentacle"));
        let mut command = without_configuration(Command::new("script"));
        command.args(["-qec", &line, "/dev/null"]).env("BACKEND_SERVERS", backends);
        command.env("RED_TENTACLE_LISTEN", "127.0.0.1:0").env("RED_TENTACLE_ADMIN_LISTEN", "off");
        command
    }

    /// The same for a user of its own who may have this many threads; `None` where this host allows no such thing.
    pub fn command_with_threads(count: usize) -> Option<Command> {
        let program = env!("CARGO_BIN_EXE_red-tentacle");
        let limited = |count: usize| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=39871", "--clear-groups", "prlimit", &format!("--nproc={count}"), program]);
            without_configuration(command)
        };
        let tried = limited(64).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| limited(count))
    }

    fn command_in_shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_red-tentacle")]);
        without_configuration(command)
    }

    /// Starts it with these arguments on free ports of the loopback interface.
    pub fn start(arguments: &[&str]) -> Binary {
        let mut command = Binary::command();
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(arguments);
        Binary::spawn(command)
    }

    /// Starts the program with sockets handed over as systemd does it: one, or two, and their names.
    pub fn start_with_sockets(arguments: &[&str], first: OwnedFd, second: Option<OwnedFd>, names: &str) -> Binary {
        // The shell keeps its process id when it becomes the program.
        let script = "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
        let mut command = Binary::command_in_shell(script);
        command
            .args(arguments)
            .env("LISTEN_FDNAMES", names)
            .env("LISTEN_FDS", if second.is_some() { "2" } else { "1" });
        command.stdin(first).stdout(second.map_or(Stdio::null(), Stdio::from)).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = lines_of(child.stderr.take().expect("a pipe"));
        Binary { child, printed: never(), lines }
    }

    /// Starts a command and reads its standard error.
    pub fn spawn(command: Command) -> Binary {
        let (mut binary, stderr) = Binary::spawn_unread(command);
        binary.read(stderr);
        binary
    }

    /// Starts a command whose standard error isn't read.
    pub fn spawn_unread(mut command: Command) -> (Binary, ChildStderr) {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("a pipe");
        let printed = lines_of(child.stdout.take().expect("a pipe"));
        (Binary { child, printed, lines: never() }, stderr)
    }

    /// Reads its standard error from now on.
    pub fn read(&mut self, stderr: ChildStderr) {
        self.lines = lines_of(stderr);
    }

    /// Runs a command to its end.
    pub fn run(command: Command) -> Ended {
        let mut binary = Binary::spawn(command);
        let code = binary.wait().code();
        Ended { code, stdout: all(&binary.printed), stderr: all(&binary.lines) }
    }

    /// Waits for a line that contains the text.
    pub fn line(&self, text: &str) -> String {
        self.lines_until(text).pop().expect("the line that was waited for")
    }

    /// All lines up to the first that contains the text.
    pub fn lines_until(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_deadline(deadline) {
                Ok(line) => {
                    seen.push(line);
                    if seen.last().is_some_and(|line| line.contains(text)) {
                        return seen;
                    }
                }
                Err(error) => panic!("no line with {text:?}, {error}: {seen:#?}"),
            }
        }
    }

    /// What it wrote since the last line that was waited for, up to its end.
    pub fn rest(&self) -> String {
        all(&self.lines)
    }

    /// The addresses that it says it listens on: clients' and updates'.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.address(), last_word(&self.line("updates are taken on")))
    }

    /// The address that it says clients can connect to.
    pub fn address(&self) -> SocketAddr {
        last_word(&self.line("listens on"))
    }

    /// Closes this end of its standard error, at the next line at the latest.
    pub fn stop_reading(&mut self) {
        self.lines = never();
    }

    /// How many threads have this name.
    pub fn threads_named(&self, name: &str) -> usize {
        threads_named(&self.child.id().to_string(), name)
    }

    /// How many bytes the thread of this name has written, to files and to sockets.
    pub fn bytes_written_by(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running process").flatten();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let written = |io: &str| io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<usize>().ok());
        let named = tasks.map(|task| task.path()).filter(|task| read(task.join("comm")).trim_end() == name);
        named.filter_map(|task| written(&read(task.join("io")))).sum()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// How much memory it uses, in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.status("VmRSS:") * 1024
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a running process").count()
    }

    /// What its descriptors lead to.
    pub fn open_files(&self) -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a running process").flatten();
        let leads = files.filter_map(|file| fs::read_link(file.path()).ok());
        leads.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// A number of `/proc/…/status`.
    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.expect("a number")
    }

    /// Sends a signal by the system's own program.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nothing else on this host uses: a loopback address of this call's own, and a port below those that the kernel
/// gives away on which nothing listens for every address either. For programs that can't tell their port.
pub fn own_address() -> SocketAddr {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    // Clients of 127.0.0.1 take their ports there.
    let host = [127, 1 + high % 254, low, CALLS.fetch_add(1, Ordering::Relaxed)];
    let mut addresses = (20_000..21_000).map(|port| SocketAddr::from((host, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a port that nothing listens on")
}

/// How many threads of a process (its number, or `self`) have this name.
pub fn threads_named(process: &str, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process").flatten();
    tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)).count()
}

fn without_configuration(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RED_TENTACLE_") || name == "BACKEND_SERVERS" {
            command.env_remove(name);
        }
    }
    command
}

fn last_word(line: &str) -> SocketAddr {
    line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address")
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = unbounded();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Everything up to the end.
fn all(lines: &Receiver<String>) -> String {
    let deadline = Instant::now() + SOON;
    let mut text = String::new();
    while let Ok(line) = lines.recv_deadline(deadline) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}
