//! An exchange's line: when it is written, and in which format.

use std::time::{Instant, SystemTime};

use log::Level;

use super::entry::{Entry, RaceEntry, Sent};
use super::line::{Kind, Line};
use super::logger;
use super::style::Paint;
use super::{json, text};
use crate::config::LogFormat;
use crate::message::Request;
use crate::message::forwarded::Forwarded;

/// The module that lines of exchanges name, so that they can be told from all others.
const TARGET: &str = "red_tentacle::access_log";

impl Entry {
    /// Whether its line is still to be written, and wanted at the log's level. What it says of the reply must be known.
    pub fn is_wanted(&self) -> bool {
        log::log_enabled!(target: TARGET, self.level()) && !self.is_told()
    }

    fn level(&self) -> Level {
        match self.reply.get() {
            Some(Sent { status: 500.., .. } | Sent { note: Some(_), has_left: false, .. }) | None => Level::Warn,
            Some(_) => Level::Info,
        }
    }

    /// The entry of a request that has just arrived.
    pub fn new(request: &Request, forwarded: Forwarded) -> Entry {
        let is_json = logger::style().is_some_and(|style| style.format == LogFormat::Json);
        Entry::of(request, forwarded, is_json)
    }

    /// Writes the line, unless that has been done before. It carries the time at which the request arrived. Backends have
    /// their names of the list; without a race the proxy has answered by itself. Doesn't block: a full queue drops the line.
    pub fn tell(&self, race: Option<&RaceEntry>) {
        if !self.is_wanted() || !self.try_tell() {
            return;
        }
        let level = self.level();
        let at = SystemTime::now().checked_sub(Instant::now().saturating_duration_since(self.received));
        let at = at.unwrap_or(SystemTime::UNIX_EPOCH);
        let Some(style) = logger::style() else {
            // A log of another program's, which has the room as a library.
            return log::log!(target: TARGET, level, "{}", text::line(self, race, Paint::NONE).0);
        };
        let (text, kind) = match style.format {
            LogFormat::Json => (json::exchange(self, race, at), Kind::Object),
            LogFormat::Text => {
                let (text, list) = text::line(self, race, style.paint);
                (text, Kind::Exchange(list))
            }
        };
        logger::put(Line { level, target: TARGET.into(), text, at, kind });
    }
}
