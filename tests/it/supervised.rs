//! Under a supervisor such as systemd: what it is told over `NOTIFY_SOCKET`, and the sockets that it hands over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{io, thread};

use crate::harness::{Authority, Binary, Client, Fake, Gate, Raw, SOON, eventually, get};

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
        let backend = Fake::behind(&gate, 200, "late");
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
fn a_supervisor_hears_that_the_list_is_read_again_and_when_that_is_done() {
    let (ear, backend) = (Ear::on_a_path(), Fake::with(200, "good"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    std::fs::write(path, &backend.url).expect("written");
    let program = Binary::spawn(command(&backend.url, &ear.name, &["--backends-file", path]));
    assert_eq!(ear.hear(), "READY=1\nSTATUS=Racing");
    let bad = "READY=1\nSTATUS=Racing as before: what was read again is bad, and the log says why";
    for (text, ready) in [("name=dc1", "READY=1\nSTATUS=Racing"), ("bad", bad), ("", "READY=1\nSTATUS=Racing")] {
        std::fs::write(path, format!("{} {text}\n", backend.url)).expect("written");
        program.signal("HUP");
        assert_eq!(ear.hear(), "RELOADING=1\nSTATUS=Reading the list again");
        assert_eq!(ear.hear(), ready);
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

/// A socket that listens on loopback, its address, and a descriptor of it to hand over.
fn listening() -> (TcpListener, SocketAddr, OwnedFd) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let descriptor = OwnedFd::from(socket.try_clone().expect("a descriptor"));
    (socket, address, descriptor)
}

#[test]
fn sockets_that_are_handed_over_take_the_place_of_the_flags() {
    let good = Fake::with(200, "good");
    let (_first, first, _) = listening();
    for (names, first_is_proxy) in
        [("", true), ("x.socket:x.socket", true), ("proxy:admin", true), ("admin:proxy", false)]
    {
        let (_sockets, (one, one_descriptor), (two, two_descriptor)) = two_sockets();
        // What the flags say is taken already, so they can't have been looked at.
        let (listen, admin_listen) = (first.to_string(), first.to_string());
        let arguments = ["--backends", &good.url, "--listen", &listen, "--admin-listen", &admin_listen];
        let program = Binary::start_with_sockets(&arguments, one_descriptor, Some(two_descriptor), names);
        let (proxy, admin) = if first_is_proxy { (one, two) } else { (two, one) };
        assert_eq!(program.addresses(), (proxy, admin), "{names}");
        assert_eq!(get(proxy, "/readyz").text(), "good", "{names}");
        assert_eq!(get(admin, "/readyz").text(), "ready\n", "{names}");
    }
}

#[test]
fn a_client_of_ipv4_at_a_socket_for_both_kinds_is_told_as_one() {
    let good = Fake::with(200, "good");
    let Ok(socket) = TcpListener::bind("[::]:0") else { return eprintln!("not tried: this host has no IPv6") };
    let port = socket.local_addr().expect("an address").port();
    let arguments = ["--backends", &good.url, "--admin-listen", "off"];
    let program = Binary::start_with_sockets(&arguments, socket.into(), None, "proxy");
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/").text(), "good");
    assert_eq!(good.next().values("x-forwarded-for"), ["127.0.0.1"]);
    let line = program.line("GET / 200");
    assert!(line.contains(" for 127.0.0.1:"), "{line}");
}

type Handed = (SocketAddr, OwnedFd);

fn two_sockets() -> ([TcpListener; 2], Handed, Handed) {
    let ((one, first, one_descriptor), (two, second, two_descriptor)) = (listening(), listening());
    ([one, two], (first, one_descriptor), (second, two_descriptor))
}

#[test]
fn a_flag_counts_where_no_socket_is_handed_over_for_it() {
    let good = Fake::with(200, "good");
    let (_socket, address, descriptor) = listening();
    let arguments = ["--backends", &good.url, "--admin-listen", "127.0.0.1:0"];
    let program = Binary::start_with_sockets(&arguments, descriptor, None, "proxy");
    let (proxy, admin) = program.addresses();
    assert_eq!((proxy, get(admin, "/healthz").status), (address, 200));
    let (_socket, address, descriptor) = listening();
    let arguments = ["--backends", &good.url, "--listen", "127.0.0.1:0"];
    let program = Binary::start_with_sockets(&arguments, descriptor, None, "admin");
    let (proxy, admin) = program.addresses();
    assert_eq!((get(proxy, "/").text().as_str(), admin), ("good", address));
}

#[test]
fn a_socket_that_cannot_be_used_ends_the_start_for_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let unix = UnixDatagram::bind(directory.path().join("socket")).expect("a socket");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (_held, address, _) = listening();
    let connected = TcpStream::connect(address).expect("a connection");
    let everywhere = TcpListener::bind("0.0.0.0:0").expect("a port");
    let (_local, _, local) = listening();
    let file = std::fs::File::open("/dev/null").expect("a file");
    let certificate = directory.path().join("certificate.pem");
    std::fs::write(&certificate, Authority::new().identity(&["a.example"]).pem()).expect("a file");
    let certificate = certificate.to_str().expect("UTF-8");
    let again = || local.try_clone().expect("a descriptor");
    let rows: [(OwnedFd, &str, &[&str], &str); 9] = [
        (again(), "admin", &["--listen", "off"], "--listen is off, and no socket for clients is handed over: "),
        (again(), "proxy", &["--tls-cert", certificate], "--tls-cert is for --tls-listen, or for a socket that is "),
        (unix.into(), "", &[], "cannot use socket 1 of LISTEN_FDS: fd 3 is not a valid tcp socket"),
        (udp.into(), "proxy", &[], "cannot use socket 1 of LISTEN_FDS: fd 3 is not a valid tcp socket"),
        (file.into(), "", &[], "cannot use socket 1 of LISTEN_FDS: fd 3 is not a socket"),
        (connected.into(), "", &[], "cannot use socket 1 of LISTEN_FDS: it doesn't listen (Accept=no is needed)"),
        (
            everywhere.try_clone().expect("a descriptor").into(),
            "admin",
            &[],
            "the socket for updates that is handed over, 0.0.0.0:",
        ),
        (again(), "admin", &["--admin-listen", "off"], "a socket for updates is handed over, but"),
        (
            local,
            "proxy",
            &["--admin-listen", "192.0.2.7:8081", "--admin-from", "192.0.2.0/24"],
            "cannot listen on 192.0.2.7:8081: ",
        ),
    ];
    for (socket, names, arguments, reason) in rows {
        let arguments = [&["--backends", "http://a.example"], arguments].concat();
        let mut program = Binary::start_with_sockets(&arguments, socket, None, names);
        let code = program.wait().code();
        let told = program.rest();
        // What the host lacks may come back.
        let expected = if reason.starts_with("cannot listen") { 1 } else { 2 };
        assert!(code == Some(expected) && told.starts_with(&format!("red-tentacle: {reason}")), "{code:?} {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn unix_sockets_are_handed_over_as_well_and_stay_when_the_program_ends() {
    let good = Fake::with(200, "good");
    let directory = tempfile::tempdir().expect("a directory");
    let paths = ["proxy", "admin"].map(|name| directory.path().join(name));
    let [one, two] = [0, 1].map(|at| UnixListener::bind(&paths[at]).expect("a socket"));
    let arguments = ["--backends", &good.url];
    let mut program = Binary::start_with_sockets(&arguments, one.into(), Some(two.into()), "proxy:admin");
    program.line(&format!("listens on unix:{}", paths[0].display()));
    let ask = |path, target| {
        let mut client = UnixStream::connect(path).expect("it listens");
        client.set_read_timeout(Some(SOON)).expect("a timeout");
        client.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).expect("room");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("a reply");
        reply
    };
    assert!(ask(&paths[0], "/").ends_with("good"));
    assert!(ask(&paths[1], "/readyz").ends_with("ready\n"));
    program.signal("TERM");
    assert_eq!(program.wait().code(), Some(0));
    assert!(paths.iter().all(|path| path.exists()), "they are the supervisor's");
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let good = Fake::with(200, "good");
    let mut command = command(&good.url, "", &[]);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let program = Binary::spawn(command);
    assert_eq!(get(program.address(), "/").text(), "good");
}

/// One request on a connection of its own, as most small clients do it.
fn request(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let is_good = reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("\r\n\r\ngood");
    if is_good { Ok(()) } else { Err(io::Error::other(format!("{reply:?}"))) }
}

#[test]
fn twenty_restarts_under_load_cost_no_request() {
    let backend = Raw::answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let (socket, address, _) = listening();
    let start = || {
        let socket = OwnedFd::from(socket.try_clone().expect("a descriptor"));
        let program =
            Binary::start_with_sockets(&["--backends", &backend.url, "--admin-listen", "off"], socket, None, "");
        assert_eq!(program.address(), address);
        program
    };
    let (served, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = (0..8).map(|_| {
        let (served, is_over) = (served.clone(), is_over.clone());
        thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                request(address)?;
                served.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<(), io::Error>(())
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..20 {
        let mut program = start();
        let before = served.load(Ordering::SeqCst);
        eventually("some requests are served", || {
            served.load(Ordering::SeqCst) >= before + 25 || clients.iter().any(thread::JoinHandle::is_finished)
        });
        program.signal("TERM");
        assert_eq!(program.wait().code(), Some(0));
    }
    // Those that wait now are the last one's.
    let _program = start();
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no panic").expect("every request is answered");
    }
    assert!(served.load(Ordering::SeqCst) >= 20 * 25);
}
