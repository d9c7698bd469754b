//! The rest of a request whose answer has been received already: it is sent to its backend beside the answer. Knows nothing of
//! clients, nor of why it may have to stop.

use crate::runtime::sync::{Arc, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::runtime::cancel::Losers;
use crate::upstream::conn::connection::Connection;
use crate::upstream::conn::parking::Readiness;
use crate::upstream::conn::request_writer::Progress;
use crate::upstream::permit::Permit;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;

/// A request that is still being sent. Dropping it ends it; then its connection isn't used again.
pub struct Upload {
    pool: Arc<Pool>,
    pooled: Arc<SharedConnection>,
    stop: Arc<UploadStop>,
    /// The permit for the file that its body may be in.
    file: Option<Permit>,
}

/// The result of one step of an upload.
pub enum Uploaded {
    /// The socket takes more, but other legs wait for the thread.
    Yield(Upload),
    /// The socket takes no more for now; it must have taken more by this time.
    Blocked(Upload, Instant),
    /// All is sent, or no more will be.
    Done,
}

/// Stops an upload; its answer isn't touched.
pub struct UploadStop {
    connection: Arc<Connection>,
    is_stopped: AtomicBool,
    /// The upload has ended: the connection may serve another request.
    is_over: AtomicBool,
}

/// The connection of an answer whose request is still being sent: the last of both to end puts it back.
#[derive(Default)]
pub(crate) struct SharedConnection(Mutex<Holder>);

#[derive(Default)]
enum Holder {
    #[default]
    Answer,
    /// The answer has ended.
    Upload(PooledConnection),
    /// The upload has ended.
    AnswerAlone,
}

impl Upload {
    /// Takes over the rest of the request that is being sent on this connection.
    pub(crate) fn new(pooled: &PooledConnection, pool: &Arc<Pool>, is_in_file: bool) -> Upload {
        let stop = Arc::new(UploadStop {
            connection: pooled.connection().clone(),
            is_stopped: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let file = is_in_file.then(|| pool.counted_permit());
        Upload { pool: pool.clone(), pooled: Arc::default(), stop, file }
    }

    pub(crate) fn pooled(&self) -> Arc<SharedConnection> {
        self.pooled.clone()
    }

    /// The handle that stops it before its end.
    pub fn stop(&self) -> Arc<UploadStop> {
        self.stop.clone()
    }

    /// Whether the body is read from a file.
    pub fn reads_file(&self) -> bool {
        self.file.is_some()
    }

    /// Sends what the socket takes. Blocks only on the disk.
    pub fn send_more(self) -> Uploaded {
        if self.stop.is_stopped.load(Ordering::Acquire) {
            return Uploaded::Done;
        }
        match self.stop.connection.send_more(None, self.pool.idle_timeout()) {
            Progress::Yield => Uploaded::Yield(self),
            Progress::Blocked(until) => Uploaded::Blocked(self, until),
            Progress::Done | Progress::Answered | Progress::TimedOut | Progress::Aborted => Uploaded::Done,
        }
    }

    /// The place where the leg parks: it is woken when the socket may take more, or the upload is stopped, or its time is over.
    /// Doesn't block.
    pub fn readiness(&self, until: Instant) -> Arc<dyn Readiness> {
        self.stop.connection.set_deadline(until);
        self.stop.connection.clone()
    }
}

impl UploadStop {
    /// Stops the upload now. Any thread, any number of times; doesn't block.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        if !self.is_over.load(Ordering::Acquire) {
            self.connection.wake();
        }
    }
}

impl Losers for UploadStop {
    fn hang_up(&self, _winner: Option<usize>) {
        self.stop();
    }
}

impl SharedConnection {
    /// Notes that the answer has ended, and gives the connection back if the upload has ended as well.
    pub(crate) fn end_answer(&self, pooled: PooledConnection) -> Option<PooledConnection> {
        let mut holder = self.0.lock();
        if matches!(*holder, Holder::AnswerAlone) {
            return Some(pooled);
        }
        *holder = Holder::Upload(pooled);
        None
    }

    /// Notes that the upload has ended, and puts the connection back if the answer has ended as well.
    fn end_upload(&self, pool: &Pool) {
        let holder = std::mem::replace(&mut *self.0.lock(), Holder::AnswerAlone);
        if let Holder::Upload(pooled) = holder {
            pool.put(pooled, Instant::now());
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.stop.is_over.store(true, Ordering::Release);
        if !self.stop.connection.is_request_out() {
            // A backend mustn't take what it has received for the whole request.
            self.stop.connection.reset_at_close();
        }
        self.pooled.end_upload(&self.pool);
    }
}
