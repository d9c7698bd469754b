//! The guarded logger: a bounded queue and one thread before what writes, which blocks when standard error is a full pipe. The
//! threads that log don't notice. Knows nothing of what the lines say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::line::{Kind, Line};
use super::style::Style;
use super::writer::Writer;
use crate::config::LogFormat;
use crate::message::Printable;

/// Lines that wait for a slow reader: a megabyte or two, as lines usually are.
const QUEUE_LINES_MAX: usize = 4096;
/// The longest wait for the queue at the end of the program: a blocked standard error must not stop it.
const FLUSH_TIME: Duration = Duration::from_secs(1);
const WRITER: &str = "log";

/// Libraries that would log private data, at levels that cost: ureq prints bodies in hex.
const CAPPED: [&str; 3] = ["ureq", "ureq_proto", "rustls"];

static LOGGER: OnceLock<Guarded> = OnceLock::new();
/// Lines that were lost since the start, since standard error was too slow or took none.
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Guarded {
    level: LevelFilter,
    style: Style,
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Line),
    /// A mark in the queue; its sender is told once everything before it has been written.
    Flush(Sender<()>),
}

/// Starts the log of this process, once. Panics are logged from then on, too. An error means that no thread could be
/// started, or that the process has a logger already.
pub fn start(level: LevelFilter, format: LogFormat) -> std::io::Result<()> {
    let (queue, lines) = bounded(QUEUE_LINES_MAX);
    let (lost, style) = (Arc::new(AtomicU64::new(0)), Style::of_stderr(format));
    let writer_lost = lost.clone();
    thread::Builder::new().name(WRITER.into()).spawn(move || write_all(&lines, &writer_lost, Writer::new(style)))?;
    let logger = LOGGER.get_or_init(|| Guarded { level, style, queue, lost });
    log::set_logger(logger).map_err(std::io::Error::other)?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| {
        // The writer's own panics are those of simple_logger at a closed standard error: no reader is left.
        if thread::current().name() != Some(WRITER) {
            log::error!("a bug: {}", Printable(&panic.to_string()));
        }
    }));
    Ok(())
}

/// The look of the lines, once the log is started.
pub(super) fn style() -> Option<Style> {
    LOGGER.get().map(|logger| logger.style)
}

/// Has a line written, whatever its level; before the start it is lost. Doesn't block.
pub(super) fn put(line: Line) {
    if let Some(logger) = LOGGER.get() {
        logger.put(line);
    }
}

/// The count of lines that were lost, since standard error was too slow or took none.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Blocks until what was logged before is written, but for two seconds at most.
pub fn flush() {
    log::logger().flush();
}

impl Guarded {
    fn put(&self, line: Line) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log for Guarded {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let root = metadata.target().split("::").next().unwrap_or_default();
        let level = if CAPPED.contains(&root) { self.level.min(LevelFilter::Warn) } else { self.level };
        metadata.level() <= level
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (target, text) = (record.target().to_owned().into(), record.args().to_string());
        self.put(Line { level: record.level(), target, text, at: SystemTime::now(), kind: Kind::Plain });
    }

    fn flush(&self) {
        let (written, flushed) = bounded(1);
        if self.queue.send_timeout(Message::Flush(written), FLUSH_TIME).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIME);
        }
    }
}

fn write_all(lines: &Receiver<Message>, lost: &AtomicU64, mut writer: Writer) {
    let mut failed = 0_u64;
    for message in lines {
        match message {
            Message::Line(line) => {
                if writer.try_write(&line) {
                    tell_lost(&mut writer, std::mem::take(&mut failed), "took none");
                } else {
                    failed += 1;
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            Message::Flush(written) => {
                let _ = written.try_send(());
            }
        }
        tell_lost(&mut writer, lost.swap(0, Ordering::Relaxed), "was too slow");
    }
}

fn tell_lost(writer: &mut Writer, count: u64, why: &str) {
    if count > 0 {
        let text = format!("{count} lines of the log were lost: standard error {why}");
        let (target, at) = (module_path!().into(), SystemTime::now());
        writer.try_write(&Line { level: Level::Warn, target, text, at, kind: Kind::Plain });
    }
}
