//! What the program asks of a proxy that runs already, and where: at an address that is given, else where the flags and
//! variables have a proxy listen. Knows nothing of how it is asked.

use std::net::SocketAddr;

use url::Url;

use super::flags::Draft;
use super::{AdminToken, Config, Listen};
use crate::message::Address;

/// What is asked of a proxy that runs already.
#[derive(Debug)]
pub enum Errand {
    /// Whether this URL answers with 2xx.
    Health(Url),
    /// Whether this address accepts connections: all that can be asked where there is no admin port.
    Reach(SocketAddr),
    /// To take another list of backends.
    Update {
        /// Where its admin port is.
        admin: Url,
        /// The list, never empty.
        backends: Vec<Address>,
        /// What it wants to be shown, if anything.
        token: Option<AdminToken>,
    },
}

/// Whose health is asked for.
#[derive(Debug)]
pub(super) enum Health {
    /// The proxy's that listens where these flags and variables say.
    Own,
    /// Whatever answers there.
    At(Url),
}

impl Health {
    /// What is asked, and where; or why that can't be told.
    pub(super) fn errand(&self, config: &Config) -> Result<Errand, String> {
        let url = match self {
            Health::At(url) => url.clone(),
            Health::Own if config.admin_listen.is_empty() => {
                let address = reached_at(&config.listen);
                return address.map(Errand::Reach).ok_or_else(|| no_port("--health", "--listen", "a URL"));
            }
            Health::Own => reached_at(&config.admin_listen)
                .map(|address| url_of(address, "readyz"))
                .ok_or_else(|| no_port("--health", "--admin-listen", "a URL"))?,
        };
        Ok(Errand::Health(url))
    }
}

/// Where updates go if no URL is given; or why that can't be told.
pub(super) fn own_admin(config: &Config) -> Result<Url, String> {
    let (listen, flag) = match config.admin_listen.as_slice() {
        [] if config.admin_on_proxy_port => (&config.listen, "--listen"),
        [] => return Err("--admin-listen and --admin-on-proxy-port are off: no port takes --update".to_owned()),
        _ => (&config.admin_listen, "--admin-listen"),
    };
    reached_at(listen).map(|address| url_of(address, "")).ok_or_else(|| no_port("--update", flag, "--admin URL"))
}

/// Where a client on this host finds the first of these addresses whose port is known before it is opened.
fn reached_at(listen: &[Listen]) -> Option<SocketAddr> {
    listen.iter().find(|listen| listen.address.port() != 0).map(Listen::reached_at)
}

fn no_port(errand: &str, flag: &str, given: &str) -> String {
    format!("{errand}: the port of {flag} is 0, any that is free; give {given}")
}

fn url_of(address: SocketAddr, path: &str) -> Url {
    Url::parse(&format!("http://{address}/{path}")).expect("a socket's address makes a URL")
}

/// What is asked of another process, if anything. This one needs no backends for it, nor a place to spool to.
pub(super) fn asked(draft: &mut Draft) -> Option<Result<Errand, String>> {
    if let Some(health) = &draft.health {
        return Some(health.errand(&draft.config));
    }
    if draft.update.is_empty() {
        return None;
    }
    let admin = draft.admin.take().map_or_else(|| own_admin(&draft.config), Ok);
    let (backends, token) = (std::mem::take(&mut draft.update), draft.config.admin_token.clone());
    Some(admin.map(|admin| Errand::Update { admin, backends, token }))
}
