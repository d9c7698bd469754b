//! Reads again what is in files: the list, and certificates. Knows nothing of signals.

use std::sync::Arc;
use std::time::SystemTime;

use super::certificates;
use super::routes::Routes;
use crate::net::server_tls::ServerTls;
use crate::systemd::{State, Supervisor};

/// Has a running server read its list's file and its certificates again, from any thread.
#[derive(Clone)]
pub struct Reloader {
    pub(super) routes: Arc<Routes>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) supervisor: Arc<Supervisor>,
}

impl Reloader {
    /// Reads the list's file again and puts its list in force, all of it or nothing, and then the same for all certificates; the
    /// log says what is wrong with them. Without either the log says that nothing was read. Blocks on the disk.
    pub fn reload(&self) {
        if self.routes.admin.is_stopping() {
            return;
        }
        self.supervisor.notify(State::Reloading);
        match self.routes.admin.list().reload() {
            Ok(true) => log::info!("the list was read again"),
            Ok(false) if self.tls.is_some() => {}
            Ok(false) => log::info!("SIGHUP: nothing to read again, for the list is in no file (--backends-file)"),
            Err(lines) => {
                for line in lines {
                    log::error!("{line}");
                }
                log::error!("the list stays as it was");
            }
        }
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => certificates::tell(tls, SystemTime::now()),
                Err(reason) => log::error!("{reason}; the certificates stay as they were"),
            }
        }
        self.supervisor.notify(State::Ready);
    }
}
