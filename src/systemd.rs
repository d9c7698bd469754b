//! A supervisor such as systemd: the listening sockets that it hands to the program, and the word to it that the
//! program is ready, or stopping. Knows nothing of what either means for clients.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use listenfd::ListenFd;
use socket2::Socket;

use crate::message::Excerpt;

/// The supervisor that started the program. The default is none: it hands over nothing, and is told nothing.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// The address as in `sd_notify(3)`: a path, or `@` and the name of an abstract socket.
    notify_socket: Option<OsString>,
    sockets: Sockets,
}

/// Sockets that listen already. The supervisor keeps them open: clients that come between two processes wait in them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The sockets that clients connect to.
    pub proxy: Vec<Socket>,
    /// The sockets that clients connect to by HTTPS.
    pub tls: Vec<Socket>,
    /// The sockets that take updates.
    pub admin: Vec<Socket>,
}

/// The purpose of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Proxy,
    Tls,
    Admin,
}

/// Whether the program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Clients are accepted.
    Ready,
    /// They are, and what was read again is bad, so that what was in force before stays.
    ReadyAsBefore,
    /// The list is read again; `Ready` follows.
    Reloading,
    /// Nothing new is begun.
    Stopping,
}

impl State {
    /// The state in the words of `sd_notify(3)`. The last of them is for people: `systemctl status` shows it.
    fn message(self) -> &'static str {
        match self {
            State::Ready => "READY=1\nSTATUS=Racing",
            State::ReadyAsBefore => {
                "READY=1\nSTATUS=Racing as before: what was read again is bad, and the log says why"
            }
            State::Reloading => "RELOADING=1\nSTATUS=Reading the list again",
            State::Stopping => "STOPPING=1\nSTATUS=Finishing what is under way",
        }
    }
}

impl Supervisor {
    /// Reads the environment, and takes the sockets that the supervisor hands over: to be called once, and before there
    /// are threads, since the variables of the sockets are cleared. An error says which socket can't be used, and why.
    pub fn from_env() -> Result<Supervisor, String> {
        let notify_socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Ok(Supervisor { notify_socket, sockets: Sockets::take(ListenFd::from_env(), &names)? })
    }

    /// Takes the sockets that were handed over; a second call gets none.
    pub fn take_sockets(&mut self) -> Sockets {
        std::mem::take(&mut self.sockets)
    }

    /// Tells the supervisor the program's state. Doesn't block. A supervisor that can't be told is no reason to end:
    /// the log has a warning.
    pub fn notify(&self, state: State) {
        let Some(name) = &self.notify_socket else { return };
        if let Err(error) = notify(name, state.message()) {
            log::warn!("cannot tell the supervisor at NOTIFY_SOCKET '{}': {error}", name.display());
        }
    }
}

impl Sockets {
    fn take(mut handed_over: ListenFd, names: &str) -> Result<Sockets, String> {
        let purposes = purposes(handed_over.len(), names)?;
        let mut sockets = Sockets::default();
        for (index, purpose) in purposes.into_iter().enumerate() {
            let unusable = |reason| format!("cannot use socket {} of LISTEN_FDS: {reason}", index + 1);
            let tcp = handed_over.take_tcp_listener(index).map(|socket| socket.map(Socket::from));
            // What is neither is told to be no TCP socket, as most are meant to be.
            let socket = tcp.or_else(|error| match handed_over.take_unix_listener(index) {
                Ok(socket) => Ok(socket.map(Socket::from)),
                Err(_) => Err(unusable(error.to_string())),
            })?;
            let socket = socket.expect("each is taken once");
            if !socket.is_listener().unwrap_or(false) {
                return Err(unusable("it doesn't listen (Accept=no is needed)".to_owned()));
            }
            match purpose {
                Purpose::Proxy => sockets.proxy.push(socket),
                Purpose::Tls => sockets.tls.push(socket),
                Purpose::Admin => sockets.admin.push(socket),
            }
        }
        Ok(sockets)
    }
}

/// The purpose of each socket: by its name, or, if none has one of our names, by its place. systemd names sockets after
/// their unit if it isn't told better.
fn purposes(count: usize, names: &str) -> Result<Vec<Purpose>, String> {
    const RIGHT: &str = "name them by FileDescriptorName= proxy, tls or admin";
    let names: Vec<&str> = names.split(':').take(count).collect();
    let known: Vec<Option<Purpose>> = names.iter().map(|name| Purpose::named(name)).collect();
    if known.iter().all(Option::is_none) {
        let by_place = [Purpose::Proxy, Purpose::Admin];
        let too_many = || format!("LISTEN_FDS hands over {count} sockets without names; {RIGHT}");
        return by_place.get(..count).map(<[_]>::to_vec).ok_or_else(too_many);
    }
    let unnamed = (0..count).find(|index| known.get(*index).copied().flatten().is_none());
    match unnamed {
        Some(index) => {
            let name = Excerpt(names.get(index).copied().unwrap_or_default());
            Err(format!("socket {} of LISTEN_FDS is named '{name}'; {RIGHT}", index + 1))
        }
        None => Ok(known.into_iter().flatten().collect()),
    }
}

impl Purpose {
    fn named(name: &str) -> Option<Purpose> {
        match name {
            "proxy" => Some(Purpose::Proxy),
            "tls" => Some(Purpose::Tls),
            "admin" => Some(Purpose::Admin),
            _ => None,
        }
    }
}

fn notify(name: &OsString, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that reads nothing must not keep the program from its work.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_sockets_are_for_and_without_them_their_places() {
        use Purpose::{Admin, Proxy, Tls};
        let rows = [
            ("none", 0, "", Ok(vec![])),
            ("one", 1, "", Ok(vec![Proxy])),
            ("two", 2, "", Ok(vec![Proxy, Admin])),
            ("two of one unit", 2, "a.socket:a.socket", Ok(vec![Proxy, Admin])),
            ("unknown, as systemd says it", 2, "unknown:unknown", Ok(vec![Proxy, Admin])),
            ("named", 2, "admin:proxy", Ok(vec![Admin, Proxy])),
            ("many", 4, "proxy:admin:proxy:admin", Ok(vec![Proxy, Admin, Proxy, Admin])),
            ("for HTTPS", 3, "tls:proxy:admin", Ok(vec![Tls, Proxy, Admin])),
            ("only an admin socket", 1, "admin", Ok(vec![Admin])),
            ("names without sockets", 0, "proxy:admin", Ok(vec![])),
            ("more names than sockets", 1, "proxy:admin", Ok(vec![Proxy])),
            ("three without names", 3, "a:b:c", Err("LISTEN_FDS hands over 3 sockets without names; name them by")),
            ("one of two named", 2, "proxy:b.socket", Err("socket 2 of LISTEN_FDS is named 'b.socket'; name them by")),
            ("fewer names than sockets", 2, "admin", Err("socket 2 of LISTEN_FDS is named ''; name them by")),
        ];
        for (label, count, names, expected) in rows {
            match (purposes(count, names), expected) {
                (Ok(purposes), Ok(expected)) => assert_eq!(purposes, expected, "{label}"),
                (Err(reason), Err(start)) => assert!(reason.starts_with(start), "{label}: {reason}"),
                (got, _) => panic!("{label}: {got:?}"),
            }
        }
    }
}
