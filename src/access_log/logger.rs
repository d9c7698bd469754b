//! The guarded logger: a bounded queue and one thread before `simple_logger`, which panics when standard error is
//! closed and blocks when it is a full pipe. Neither reaches the threads that log. Knows nothing of what the lines say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::message::Printable;

/// Lines that wait for a slow reader: a megabyte or two, as lines usually are.
const QUEUE_LINES_MAX: usize = 4096;
/// The longest wait for the queue at the end of the program: a blocked standard error must not stop it.
const FLUSH_TIME: Duration = Duration::from_secs(1);
const WRITER: &str = "log";

/// Libraries that would log private data, at levels that cost: ureq prints bodies in hex.
const CAPPED: [&str; 3] = ["ureq", "ureq_proto", "rustls"];

static LOGGER: OnceLock<Guarded> = OnceLock::new();
/// Lines that were lost since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Guarded {
    level: LevelFilter,
    queue: Sender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Line),
    /// A mark in the queue; its sender is told once everything before it has been written.
    Flush(Sender<()>),
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Starts the log of this process, once. Panics are logged from then on, too. An error means that no thread could be
/// started, or that the process has a logger already.
pub fn start(level: LevelFilter) -> std::io::Result<()> {
    let (queue, lines) = bounded(QUEUE_LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let writer_lost = lost.clone();
    thread::Builder::new().name(WRITER.into()).spawn(move || write_all(&lines, &writer_lost))?;
    let logger = LOGGER.get_or_init(|| Guarded { level, queue, lost });
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

/// The count of lines that were lost, since standard error was too slow.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Blocks until what was logged before is written, but for two seconds at most.
pub fn flush() {
    log::logger().flush();
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
        let line = Line { level: record.level(), target: record.target().to_owned(), text: record.args().to_string() };
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (written, flushed) = bounded(1);
        if self.queue.send_timeout(Message::Flush(written), FLUSH_TIME).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIME);
        }
    }
}

fn write_all(lines: &Receiver<Message>, lost: &AtomicU64) {
    let logger = SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps();
    for message in lines {
        match message {
            Message::Line(line) => write(&logger, &line),
            Message::Flush(written) => {
                let _ = written.try_send(());
            }
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let text = format!("{count} lines of the log were lost: standard error was too slow");
            write(&logger, &Line { level: Level::Warn, target: module_path!().to_owned(), text });
        }
    }
}

fn write(logger: &SimpleLogger, line: &Line) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let mut record = Record::builder();
        logger.log(&record.level(line.level).target(&line.target).args(format_args!("{}", line.text)).build());
    }));
}
