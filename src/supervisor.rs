//! What a supervisor such as systemd hands to the program, and what it is told: that the program is ready, that it ends.
//! Knows nothing of what either means for clients.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who started the program. The default is somebody who wants to know nothing.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// As in `sd_notify(3)`: a path, or `@` and the name of an abstract socket.
    notify_socket: Option<OsString>,
}

/// How the program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Clients are accepted.
    Ready,
    /// Nothing new is begun.
    Stopping,
}

impl Standing {
    /// In the words of `sd_notify(3)`. The last is for people: `systemctl status` shows it.
    fn message(self) -> &'static str {
        match self {
            Standing::Ready => "READY=1\nSTATUS=Racing",
            Standing::Stopping => "STOPPING=1\nSTATUS=Finishing what is under way",
        }
    }
}

impl Supervisor {
    /// The supervisor that the environment tells of.
    pub fn from_env() -> Supervisor {
        let notify_socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Supervisor { notify_socket }
    }

    /// Tells how the program stands. That nobody hears it is no reason to end: the log tells.
    pub fn tell(&self, standing: Standing) {
        let Some(name) = &self.notify_socket else { return };
        if let Err(error) = tell(name, standing.message()) {
            log::warn!("cannot tell the supervisor at NOTIFY_SOCKET '{}': {error}", name.display());
        }
    }
}

fn tell(name: &OsString, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that reads nothing must not keep the program from its work.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
