//! Under a supervisor such as systemd: what it is told over `NOTIFY_SOCKET`, and the sockets that it hands over.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::Command;

use crate::harness::{Binary, Client, Fake, Gate, SOON, get};

/// The place where a supervisor listens, and its name as the program is told it.
struct Ear {
    socket: UnixDatagram,
    name: String,
    _directory: tempfile::TempDir,
}

impl Ear {
    fn on_a_path() -> Ear {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Ear::of(socket, path.to_str().expect("UTF-8").to_owned(), directory)
    }

    fn without_a_path() -> Ear {
        let directory = tempfile::tempdir().expect("a directory");
        let name = format!("{}/abstract", directory.path().display());
        let address = UnixAddress::from_abstract_name(&name).expect("a name");
        Ear::of(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"), directory)
    }

    fn of(socket: UnixDatagram, name: String, directory: tempfile::TempDir) -> Ear {
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        Ear { socket, name, _directory: directory }
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    fn hears_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        self.socket.recv(&mut [0; 16]).is_err()
    }
}

/// The program before a backend, told of the ear.
fn command(backend: &str, notify_socket: &str, arguments: &[&str]) -> Command {
    let mut command = Binary::command();
    command.args(["--backends", backend, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(arguments).env("NOTIFY_SOCKET", notify_socket);
    command
}

#[test]
fn a_supervisor_hears_when_it_is_ready_and_when_it_stops() {
    for ear in [Ear::on_a_path(), Ear::without_a_path()] {
        let gate = Gate::new();
        let held = gate.clone();
        let backend = Fake::answering(move |_| {
            held.pass();
            Fake::reply(200, "late")
        });
        let mut program = Binary::spawn(command(&backend.url, &ear.name, &["--grace-period", "1h"]));
        assert_eq!(ear.hear(), "READY=1\nSTATUS=Racing");
        let (address, admin) = program.addresses();
        assert_eq!(get(admin, "/readyz").status, 200);
        let mut client = Client::connect(address);
        client.send_request("GET", "/", &[], None);
        backend.next();
        program.signal("TERM");
        assert_eq!(ear.hear(), "STOPPING=1\nSTATUS=Finishing what is under way");
        gate.open();
        assert_eq!(client.reply().text(), "late");
        assert_eq!(program.wait().code(), Some(0));
        assert!(ear.hears_nothing(), "nothing else is told");
    }
}

#[test]
fn a_program_that_cannot_listen_never_says_that_it_is_ready() {
    let ear = Ear::on_a_path();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = Binary::command();
    command.args(["--backends", "http://a.example", "--listen", "127.0.0.1:0", "--admin-listen", &address]);
    command.env("NOTIFY_SOCKET", &ear.name);
    assert_eq!(Binary::run(command).code, Some(1));
    assert!(ear.hears_nothing());
}

#[test]
fn a_supervisor_that_is_not_there_is_told_of_in_the_log_and_costs_nothing() {
    let good = Fake::with(200, "good");
    let mut program = Binary::spawn(command(&good.url, "/nonexistent/notify", &[]));
    let address = program.address();
    program.line("cannot tell the supervisor at NOTIFY_SOCKET '/nonexistent/notify': No such file");
    assert_eq!(get(address, "/").text(), "good");
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
}
