//! The rest of a request whose answer has been received already: it is sent to its backend beside the answer. Knows nothing of
//! clients, nor of why it may have to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::runtime::cancel::Losers;
use crate::runtime::sync::{Arc, Mutex};
use crate::upstream::conn::connection::{Connection, FileRead};
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
    _file: Option<Permit>,
    /// By when more of it must have gone out; from its first step on.
    until: Option<Instant>,
}

/// The result of one step of an upload.
pub enum Uploaded {
    /// The socket takes more, but the next of it must be read from its file first.
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
        let file = is_in_file.then(|| pool.endpoint().counted_permit());
        Upload { pool: pool.clone(), pooled: Arc::default(), stop, _file: file, until: None }
    }

    pub(crate) fn pooled(&self) -> Arc<SharedConnection> {
        self.pooled.clone()
    }

    /// The handle that stops it before its end.
    pub fn stop(&self) -> Arc<UploadStop> {
        self.stop.clone()
    }

    /// What has to be read of a file before more is sent, and where the leg parks meanwhile: until this time, or the upload's own.
    pub fn file_read(&mut self, until: Option<Instant>) -> Option<(FileRead, Arc<dyn Readiness>)> {
        if self.stop.is_stopped() {
            return None;
        }
        let own = self.until();
        self.stop.connection.file_read_until(until.unwrap_or(own).min(own))
    }

    /// Sends what the socket takes. Doesn't block.
    pub fn send_more(mut self) -> Uploaded {
        let now = Instant::now();
        if self.stop.is_stopped() || now >= self.until() {
            return Uploaded::Done;
        }
        let silence_max = self.pool.endpoint().idle_timeout();
        match self.stop.connection.send_more(None, silence_max) {
            Progress::Yield(until) => {
                self.until = Some(until);
                Uploaded::Yield(self)
            }
            Progress::Blocked(until) => {
                self.until = Some(until);
                Uploaded::Blocked(self, until)
            }
            Progress::Done | Progress::Answered | Progress::TimedOut | Progress::Aborted => Uploaded::Done,
        }
    }

    fn until(&mut self) -> Instant {
        *self.until.get_or_insert_with(|| Instant::now() + self.pool.endpoint().idle_timeout())
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

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::LegStep;
    use crate::upstream::conn::parking::{Count, wait_for};
    use crate::upstream::response::answer::Answer;
    use crate::upstream::response::body::AnswerBody;
    use crate::upstream::scenario::{Backend, LONG, Scenario, TestLeg, get, post_of_file};

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// A success that has been received whole before the file of its request was sent, its upload, and the backend, which has
    /// received the request's head.
    fn early() -> (Scenario, Answer, Upload, Backend) {
        early_in(Scenario::new())
    }

    fn early_in(scenario: Scenario) -> (Scenario, Answer, Upload, Backend) {
        let (leg, mut backend) = scenario.leg(post_of_file(b"abc"));
        backend.receives_head();
        backend.sends(ANSWER);
        let mut answer = leg.answer().expect("an answer");
        let upload = answer.upload.take().expect("the rest of the request");
        (scenario, answer, upload, backend)
    }

    /// Sends what the socket takes, once that has been read.
    fn send(mut upload: Upload) -> Uploaded {
        if let Some((read, _)) = upload.file_read(None) {
            read.run();
        }
        upload.send_more()
    }

    fn read(answer: Answer) -> Vec<u8> {
        let mut body = Vec::new();
        match answer.body {
            AnswerBody::Whole(whole) => body = whole,
            AnswerBody::Streamed(mut stream) => {
                std::io::copy(&mut stream, &mut body).expect("a whole body");
            }
        }
        body
    }

    #[test]
    fn the_rest_of_a_request_is_sent_beside_its_answer() {
        let (_scenario, answer, upload, mut backend) = early();
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!((backend.receives(3), read(answer)), (b"abc".to_vec(), b"ok".to_vec()));
    }

    #[test]
    fn the_connection_is_put_back_by_the_last_to_end() {
        let (scenario, answer, upload, _backend) = early();
        assert_eq!(read(answer), b"ok");
        assert_eq!(scenario.take_idle(), 0, "the upload is under way");
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!(scenario.take_idle(), 1);
        let (scenario, answer, upload, _backend) = early();
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!(scenario.take_idle(), 0, "the answer is under way");
        assert_eq!(read(answer), b"ok");
        assert_eq!(scenario.take_idle(), 1);
    }

    #[test]
    fn a_stopped_upload_sends_no_more_and_its_connection_is_not_used_again() {
        let (scenario, answer, upload, mut backend) = early();
        let stop = upload.stop();
        stop.stop();
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!(read(answer), b"ok");
        drop(stop);
        assert_eq!((scenario.take_idle(), backend.receives_to_end()), (0, Vec::new()));
    }

    /// An answer may be held for long before it decides.
    #[test]
    fn the_time_of_an_upload_begins_with_its_first_step() {
        let idle_timeout = Duration::from_millis(300);
        let (_scenario, _answer, upload, mut backend) =
            early_in(Scenario::with(|options| options.idle_timeout = idle_timeout));
        let since = Instant::now();
        while since.elapsed() <= idle_timeout {
            std::thread::yield_now();
        }
        let Uploaded::Yield(upload) = upload.send_more() else { panic!("it has to be read first") };
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!(backend.receives(3), b"abc");
    }

    #[test]
    fn a_stop_wakes_the_parked_leg() {
        let (_scenario, _answer, upload, _backend) = early();
        let readiness = upload.readiness(Instant::now() + LONG);
        let stop = upload.stop();
        let stopping = std::thread::spawn(move || stop.stop());
        wait_for(&readiness);
        stopping.join().expect("no panic");
    }

    /// A late stop must not wake the next leg on the connection: its step would be one more than events.
    #[test]
    fn a_stop_after_the_end_concerns_the_next_leg_on_the_connection_no_more() {
        let (scenario, answer, upload, _backend) = early_in(Scenario::still());
        let (stop, connection) = (upload.stop(), upload.stop.connection.clone());
        assert!(matches!(send(upload), Uploaded::Done));
        assert_eq!(read(answer), b"ok");
        let taken = scenario.pool.take(true, Instant::now()).expect("it idles");
        assert!(Arc::ptr_eq(taken.connection(), &connection));
        let woken = Arc::new(Count::default());
        assert!(connection.park(woken.clone(), 0));
        stop.stop();
        assert_eq!(woken.get(), 0);
    }

    #[test]
    fn the_file_counts_as_a_connection_until_the_upload_ends() {
        let (scenario, answer, upload, _backend) = early();
        let count = || scenario.upstream.connections.load(Ordering::Relaxed);
        assert_eq!(count(), 2);
        drop(upload);
        assert_eq!(count(), 1);
        drop(answer);
        assert_eq!(count(), 0);
    }

    #[test]
    fn an_answer_whose_request_is_out_has_no_upload() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        backend.sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
        assert!(leg.answer().is_ok_and(|answer| answer.upload.is_none()));
        let (leg, mut backend) = scenario.leg(post_of_file(b"abc"));
        let TestLeg { request, token, pending } = leg;
        pending.file_read().expect("bytes to send").0.run();
        let Ok(LegStep::Blocked(pending)) = pending.step(&request, &token, false) else { panic!("no answer yet") };
        backend.sends(ANSWER);
        assert!(TestLeg { request, token, pending }.answer().is_ok_and(|answer| answer.upload.is_none()));
    }
}
