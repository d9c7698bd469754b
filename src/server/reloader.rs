//! Reads again what is in files: the list, and certificates. Knows nothing of signals.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use super::certificates;
use super::routes::Routes;
use crate::config::{self, Config};
use crate::net::server_tls::ServerTls;
use crate::systemd::{State, Supervisor};

/// Has a running server read its list's file and its certificates again, from any thread.
#[derive(Clone)]
pub struct Reloader {
    pub(super) config: Arc<Config>,
    pub(super) routes: Arc<Routes>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) supervisor: Arc<Supervisor>,
    /// How often a thread has been asked that hasn't begun to read for it.
    pub(super) asked: Arc<AtomicUsize>,
}

impl Reloader {
    /// Does what [`Reloader::reload`] does on a thread of its own: the next signal is heard, however long the disk takes. What is
    /// asked for meanwhile is one reading more.
    pub fn reload_beside(&self) {
        if self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let own = self.clone();
        let reload_all = move || {
            let mut asked = 0;
            while own.asked.fetch_sub(asked, Ordering::SeqCst) > asked {
                asked = own.asked.load(Ordering::SeqCst);
                // The panic hook has logged it, and the next one is obeyed.
                let _ = catch_unwind(AssertUnwindSafe(|| own.reload()));
            }
        };
        if let Err(error) = thread::Builder::new().name("reload".into()).spawn(reload_all) {
            self.asked.store(0, Ordering::SeqCst);
            log::error!("SIGHUP: nothing was read again, for a thread cannot be started: {error}");
        }
    }

    /// Reads the list's file again and puts its list in force, all of it or nothing, and then the same for all certificates; the
    /// log says what is wrong with them. Without either the log says that nothing was read. Files that have changed in vain are told, too.
    /// Blocks on the disk.
    pub fn reload(&self) {
        if self.routes.admin.is_stopping() {
            return;
        }
        self.supervisor.notify(State::Reloading);
        let mut state = State::Ready;
        match self.routes.admin.list().reload() {
            Ok(true) => log::info!("the list was read again"),
            Ok(false) if self.tls.is_some() => {}
            Ok(false) => match self.routes.admin.list().kept_in() {
                Some(path) => log::info!("SIGHUP: {path} has yet to be created; the list stays"),
                None => log::info!("SIGHUP: nothing to read again, for the list is in no file (--backends-file)"),
            },
            Err(lines) => {
                for line in lines {
                    log::error!("{line}");
                }
                log::error!("the list stays as it was");
                state = State::ReadyAsBefore;
            }
        }
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => certificates::tell(tls, SystemTime::now()),
                Err(reason) => {
                    log::error!("{reason}; the certificates stay as they were");
                    state = State::ReadyAsBefore;
                }
            }
        }
        for (flag, usable) in config::outdated(&self.config) {
            let told = match usable {
                Ok(()) => "has changed and is read at the start alone; restart to have it count".to_owned(),
                Err(reason) => format!("can't be used any more ({reason}): a restart would fail"),
            };
            log::warn!("SIGHUP: the file of --{flag} {told}");
        }
        if !self.routes.admin.is_stopping() {
            self.supervisor.notify(state);
        }
    }
}
