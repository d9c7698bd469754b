//! The listening sockets: those that the supervisor hands over, else those that the flags ask for. Knows nothing of the
//! clients that connect to them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, Listen};
use crate::systemd::Sockets;

/// The most clients that the kernel accepts before we do.
const BACKLOG: i32 = 1024;

/// Opens the sockets for clients and those for updates. Flags don't count where sockets are handed over. Doesn't block.
/// An error names the address, and ends with what can be done about it.
pub fn listening(config: &Config, handed_over: Sockets) -> Result<(Vec<TcpListener>, Vec<TcpListener>), String> {
    let Sockets { proxy, admin } = handed_over;
    let proxy = if proxy.is_empty() { listen(&config.listen, "give --listen another address")? } else { proxy };
    let elsewhere = "give --admin-listen another address, or off";
    let admin = if admin.is_empty() { listen(&config.admin_listen, elsewhere)? } else { admin };
    Ok((proxy, admin))
}

/// Checks sockets that are handed over by the rules for `--admin-listen`.
pub fn check(config: &Config, handed_over: &Sockets) -> Result<(), String> {
    let sockets = &handed_over.admin;
    if !sockets.is_empty() && config.admin_listen.is_empty() {
        return Err("a socket for updates is handed over, but --admin-listen is off; leave one of them out".to_owned());
    }
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok());
    let open = addresses.map(Listen::from).find(|listen| !listen.is_loopback());
    match open {
        Some(listen) if config.admin_token.is_none() && config.admin_from.is_empty() => Err(format!(
            "the socket for updates that is handed over, {listen}: others than this host can reach it; \
             give --admin-token-file FILE or --admin-from CIDR too"
        )),
        _ => Ok(()),
    }
}

/// Opens a socket for each address. The error ends with `elsewhere`, which says what can be done about it.
fn listen(addresses: &[Listen], elsewhere: &str) -> Result<Vec<TcpListener>, String> {
    let mut sockets = Vec::new();
    for listen in addresses {
        match socket(listen.address) {
            Err(error) if listen.optional && is_missing_family(&error) => {}
            Err(error) => return Err(format!("cannot listen on {}: {}; {elsewhere}", listen.address, reason(&error))),
            Ok(socket) => sockets.push(socket),
        }
    }
    Ok(sockets)
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Else [::] would take IPv4 as well, and 0.0.0.0 beside it would be in use.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether this host has no IPv6.
fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => error.to_string(),
    }
}
