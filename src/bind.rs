//! The listening sockets: those that the supervisor hands over, else those that the flags ask for. Knows nothing of the
//! clients that connect to them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::{Config, Listen};
use crate::message::{Printable, shown_path};
use crate::runtime::sync::Mutex;
use crate::systemd::Sockets;

/// The most clients that the kernel accepts before we do.
const BACKLOG: i32 = 1024;
/// The mode of a Unix socket's file: the program's user and group may connect, and no others.
const SOCKET_MODE: u32 = 0o660;

/// The longest wait for other processes that make their sockets in the same folders, which takes a moment.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// And at the end, for each file.
const LOCK_TIME_AT_END: Duration = Duration::from_millis(200);
/// The time between two tries.
const LOCK_TICK: Duration = Duration::from_millis(20);

/// The sockets that listen, with what of them is to be cleared away.
#[derive(Debug, Default)]
pub struct Listening {
    /// Those that were handed over, and those that were opened here.
    pub sockets: Sockets,
    /// The files of those that were opened here at a path, but for updates.
    pub files: Arc<SocketFiles>,
    /// The files of those for updates.
    pub admin_files: Arc<SocketFiles>,
}

/// The files of Unix sockets. Each is removed once: when this is dropped, or before.
#[derive(Debug, Default)]
pub struct SocketFiles(Mutex<Vec<SocketFile>>);

impl SocketFiles {
    /// Removes those that are left. Another thread that does so meanwhile is waited for.
    pub fn remove(&self) {
        self.0.lock().clear();
    }
}

/// The file of a Unix socket. It is removed when this is dropped, unless another process has put its own in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// As long as it is open no other file gets its number.
    file: Option<OwnedFd>,
}

/// Opens the sockets for clients and those for updates. A flag doesn't count where sockets of its kind are handed over, nor
/// `--listen` where one for HTTPS is. Blocks for two seconds at most, while another process makes sockets in the same folder.
/// An error names the address, and ends with what can be done about it.
pub fn listening(config: &Config, handed_over: Sockets) -> Result<Listening, String> {
    let mut listening = Listening { sockets: handed_over, ..Listening::default() };
    let Listening { sockets: Sockets { proxy, tls, admin }, files, admin_files } = &mut listening;
    let until = Instant::now() + LOCK_TIME;
    if proxy.is_empty() && tls.is_empty() {
        *proxy = listen(&config.listen, &mut files.0.lock(), until, "give --listen another address")?;
    }
    if tls.is_empty() {
        *tls = listen(&config.tls_listen, &mut files.0.lock(), until, "give --tls-listen another address")?;
    }
    if admin.is_empty() {
        *admin = listen(
            &config.admin_listen,
            &mut admin_files.0.lock(),
            until,
            "give --admin-listen another address, or off",
        )?;
    }
    Ok(listening)
}

/// Checks sockets that are handed over by the rules for the flags whose place they take.
pub fn check(config: &Config, handed_over: &Sockets) -> Result<(), String> {
    let (has_certificate, has_tls) = (!config.tls.certificates.is_empty(), !handed_over.tls.is_empty());
    if has_tls && !has_certificate {
        return Err("a socket for HTTPS is handed over, which needs a certificate; give --tls-cert FILE".to_owned());
    }
    if has_certificate && !has_tls && config.tls_listen.is_empty() {
        return Err(
            "--tls-cert is for --tls-listen, or for a socket that is handed over as 'tls'; give one of them too"
                .to_owned(),
        );
    }
    if handed_over.proxy.is_empty() && !has_tls && config.listen.is_empty() && config.tls_listen.is_empty() {
        return Err("--listen is off, and no socket for clients is handed over: no client could connect; \
                    give one of them"
            .to_owned());
    }
    let sockets = &handed_over.admin;
    if !sockets.is_empty() && config.admin_listen.is_empty() {
        return Err("a socket for updates is handed over, but --admin-listen is off; leave one of them out".to_owned());
    }
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()?.as_socket());
    let open = addresses.map(Listen::from).find(|listen| !listen.is_loopback());
    match open {
        Some(listen) if config.admin_token.is_none() && config.admin_from.is_empty() => Err(format!(
            "the socket for updates that is handed over, {listen}: others than this host can reach it; \
             give --admin-token-file FILE or --admin-from CIDR too"
        )),
        _ => Ok(()),
    }
}

/// The address of a listening socket, as the log has it.
pub fn place(socket: &Socket) -> String {
    let Ok(address) = socket.local_addr() else { return "?".to_owned() };
    match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => format!("unix:{}", shown_path(path)),
        (None, None) => {
            let name = address.as_abstract_namespace().map(|name| OsStr::from_bytes(name).to_string_lossy());
            format!("unix:@{}", Printable(&name.unwrap_or_default()))
        }
    }
}

/// Opens a socket for each address. The error ends with `elsewhere`, which says what can be done about it.
fn listen(
    addresses: &[Listen],
    files: &mut Vec<SocketFile>,
    until: Instant,
    elsewhere: &str,
) -> Result<Vec<Socket>, String> {
    let mut sockets = Vec::new();
    for listen in addresses {
        let opened = match listen {
            Listen::Tcp { address, .. } => socket(*address),
            Listen::Unix(path) => unix_socket(path, until).map(|(socket, file)| {
                files.push(file);
                socket
            }),
        };
        match (opened, listen) {
            (Err(error), Listen::Tcp { optional: true, .. }) if is_missing_family(&error) => {}
            (Err(error), listen) => {
                return Err(format!("cannot listen on {}: {}; {elsewhere}", listen.place(), reason(&error)));
            }
            (Ok(socket), _) => sockets.push(socket),
        }
    }
    Ok(sockets)
}

/// Makes the file for the user and the group, before a client can connect. A file that a process has left behind is replaced:
/// nothing answers there. Of processes that start at once one does so after the other, or the second would take the first one's socket
/// for left behind before it listens.
fn unix_socket(path: &Path, until: Instant) -> io::Result<(Socket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    let locked = locked(path.parent().unwrap_or(path), until)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("a file that is no socket stands there"));
        }
        Ok(_) if is_left_behind(&address) => fs::remove_file(path)?,
        _ => {}
    }
    socket.bind(&address)?;
    let file = SocketFile { path: path.to_owned(), file: opened(path) };
    let listens =
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).and_then(|()| socket.listen(BACKLOG));
    // Before the file's, if it must be removed again.
    drop(locked);
    listens.map(|()| (socket, file))
}

/// Locks the folder until the file is dropped, if that goes by then, for which it blocks: any user who may read the folder
/// can hold its lock, and mustn't keep this process from its start. One that may be written and not read isn't locked.
fn locked(folder: &Path, until: Instant) -> io::Result<Option<File>> {
    let file = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        opened => opened?,
    };
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(LOCK_TICK),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => return Ok(locked.map(|()| Some(file))?),
        }
    }
}

/// Whether nothing listens there. Doesn't block: a process whose queue is full listens.
fn is_left_behind(address: &SockAddr) -> bool {
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).and_then(|one| one.connect(address));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file itself, whatever it is, to be told from others.
fn opened(path: &Path) -> Option<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity_of = |file: &OwnedFd| fstat(file).map(|found| (found.st_dev, found.st_ino));
    identity_of(one).is_ok_and(|identity| identity_of(other) == Ok(identity))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may be about to replace it.
        let _locked = self.path.parent().map(|folder| locked(folder, Instant::now() + LOCK_TIME_AT_END));
        let found = opened(&self.path);
        if let (Some(own), Some(found)) = (&self.file, &found)
            && is_same(own, found)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Else [::] would take IPv4 as well, and 0.0.0.0 beside it would be in use.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // Before the first client can connect, whose socket inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether this host has no IPv6.
fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use".to_owned(),
        io::ErrorKind::NotFound => "no such directory".to_owned(),
        io::ErrorKind::NotADirectory => "a part of its path isn't a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::{Barrier, mpsc};

    use super::*;

    #[test]
    fn of_those_who_start_at_one_path_at_once_one_gets_it() {
        const STARTING: usize = 4;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        for round in 0..50 {
            drop(UnixListener::bind(&path).expect("a socket that is left behind"));
            let barrier = Barrier::new(STARTING);
            let start = || {
                barrier.wait();
                unix_socket(&path, Instant::now() + LOCK_TIME).map_err(|error| reason(&error))
            };
            let started: Vec<_> = thread::scope(|scope| {
                let starting: Vec<_> = (0..STARTING).map(|_| scope.spawn(start)).collect();
                starting.into_iter().map(|starting| starting.join().expect("no panic")).collect()
            });
            let lost = started.iter().filter(|started| matches!(started, Err(why) if why == "the address is in use"));
            assert_eq!(lost.count(), STARTING - 1, "round {round}: {started:?}");
            assert!(!is_left_behind(&SockAddr::unix(&path).expect("a path")), "the other listens");
        }
    }

    #[test]
    fn a_folder_that_is_locked_is_waited_for_but_not_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        let lock = locked(folder.path(), Instant::now()).expect("a lock");
        let soon = Instant::now() + LOCK_TICK * 5;
        assert!(unix_socket(&path, soon).is_ok() && Instant::now() >= soon, "any user can hold the lock");
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let much_later = Instant::now() + LOCK_TIME * 10;
            scope.spawn(move || sender.send(unix_socket(&path, much_later).is_ok()).expect("it is waited for"));
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "it waits");
            drop(lock);
            assert_eq!(receiver.recv(), Ok(true));
        });
    }

    /// Many file systems give the next file the number of one that is gone.
    #[test]
    fn the_file_of_a_successor_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        let (socket, file) = unix_socket(&path, Instant::now() + LOCK_TIME).expect("a socket");
        drop(socket);
        fs::remove_file(&path).expect("removed");
        let _successor = UnixListener::bind(&path).expect("a socket");
        drop(file);
        assert!(path.exists());
        drop(unix_socket(&folder.path().join("y.sock"), Instant::now() + LOCK_TIME).expect("a socket").1);
        assert!(!folder.path().join("y.sock").exists(), "one's own is removed");
    }
}
