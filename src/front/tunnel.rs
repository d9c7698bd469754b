//! A connection after a 101: bytes both ways between a client and a backend, until both have ended or nothing moves for too
//! long. While nothing is to be moved it waits in the poller. Knows nothing of what the bytes mean.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;

use super::client::{Client, LOOK_UP_TIME};
use super::crowd::Standing;
use crate::message::{Delivery, FarSide, TunnelCare};
use crate::poller::Turn;
use crate::wait;

/// Moved in one piece, in either direction.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces each way before others get the thread: a megabyte, or about a millisecond.
const ROUNDS_MAX: usize = 64;

/// Two connections that are one.
pub(super) struct Tunnel {
    client: Arc<Client>,
    run: Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>,
    shared: Mutex<Shared>,
}

struct Shared {
    /// `None` while somebody moves bytes. Whoever takes it out owns both sides.
    ends: Option<Box<Ends>>,
    /// Something happened while somebody moved bytes: whoever gives the ends back must look.
    pending: bool,
    /// The tunnel is over, or is to be.
    closed: bool,
}

struct Ends {
    far: Box<dyn FarSide>,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    opened_at: Instant,
    moved_at: Instant,
    /// One side takes nothing any more; what the other still gets is the last of it.
    failed: Option<Delivery>,
    ended: Box<dyn FnOnce(Delivery) + Send>,
}

/// The ends in the hands of one thread, or on their way to it. Dropped there (by a panic, or since the house takes no more
/// work), they end the tunnel: it would never be heard of again.
struct Held {
    tunnel: Arc<Tunnel>,
    ends: Option<Box<Ends>>,
}

/// One direction: what has been read and not yet been written.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    written: usize,
    source_ended: bool,
    /// How much has been read so far.
    total: u64,
    /// The end has been told to the other side.
    closed: bool,
}

impl Flow {
    fn is_pending(&self) -> bool {
        self.written < self.bytes.len()
    }

    /// Reads if nothing is pending, writes what is: whether anything moved. Waits for nothing.
    fn step(&mut self, source: &mut dyn Read, sink: &mut dyn Write) -> Result<bool, Failed> {
        let mut moved = false;
        if !self.is_pending() && !self.source_ended {
            self.bytes.resize(PIECE_BYTES, 0);
            let read = now(source.read(&mut self.bytes)).map_err(Failed::Source)?;
            self.source_ended = read == Some(0);
            self.total += read.unwrap_or(0) as u64;
            moved = read.is_some();
            self.written = 0;
            self.bytes.truncate(read.unwrap_or(0));
        }
        if self.is_pending() {
            let count = now(sink.write(&self.bytes[self.written..])).map_err(Failed::Sink)?.unwrap_or(0);
            self.written += count;
            moved |= count > 0;
        }
        if !self.is_pending() {
            // A silent tunnel keeps no buffer.
            self.bytes = Vec::new();
            self.written = 0;
        }
        Ok(moved)
    }

    /// Nothing more goes this way.
    fn give_up(&mut self) {
        *self = Flow { source_ended: true, closed: true, ..Flow::default() };
    }

    /// Whether the end is to be told now, once.
    fn closes_now(&mut self) -> bool {
        self.source_ended && !self.is_pending() && !std::mem::replace(&mut self.closed, true)
    }
}

/// Which side of a flow has failed.
enum Failed {
    Source(io::Error),
    Sink(io::Error),
}

/// What was done at once; `None` if it would have to wait.
fn now(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a socket that isn't read any more has to say.
fn error_of(socket: BorrowedFd) -> Option<io::Error> {
    SockRef::from(&socket).take_error().unwrap_or_else(Some)
}

impl Ends {
    /// Moves what can be moved without waiting: whether anything was.
    fn step(&mut self, client: &Client) -> Result<bool, Delivery> {
        let up = self.up.step(&mut &client.socket, &mut *self.far);
        let up = match up.and_then(|moved| self.flush().map(|()| moved)) {
            Ok(moved) => moved,
            Err(Failed::Source(error)) => return Err(Delivery::ClientGone(error)),
            Err(Failed::Sink(error)) => self.fail(Delivery::BodyBroke(error)),
        };
        let down = match self.down.step(&mut *self.far, &mut &client.socket) {
            Ok(moved) => moved,
            Err(Failed::Source(error)) => return Err(Delivery::BodyBroke(error)),
            Err(Failed::Sink(error)) => self.fail(Delivery::ClientGone(error)),
        };
        if up || down {
            self.moved_at = Instant::now();
        }
        Ok(up || down)
    }

    fn flush(&mut self) -> Result<(), Failed> {
        if self.has_unsent() {
            now(self.far.flush().map(|()| 0)).map_err(Failed::Sink)?;
        }
        Ok(())
    }

    /// Once nothing more is to go up, what the far side would still say of its own doesn't matter.
    fn has_unsent(&self) -> bool {
        !self.up.closed && self.far.has_unsent()
    }

    /// One side takes nothing any more. What it has sent before may be its last word, and still reaches the other.
    fn fail(&mut self, failed: Delivery) -> bool {
        match failed {
            Delivery::ClientGone(_) => self.down.give_up(),
            _ => self.up.give_up(),
        }
        self.failed.get_or_insert(failed);
        true
    }

    /// Half-closes what is through. After a failure nothing may look as if it had come to its end.
    fn tell_ends(&mut self, client: &Client) {
        let is_orderly = self.failed.is_none();
        if !self.has_unsent() && self.up.closes_now() && is_orderly {
            self.far.end_writing();
        }
        if self.down.closes_now() && is_orderly {
            let _ = client.socket.shutdown(Shutdown::Write);
        }
    }

    /// Why the tunnel is over, if it is.
    fn end(&mut self, client: &Client) -> Option<Delivery> {
        if self.have_ended() {
            return Some(self.failed.take().unwrap_or(Delivery::Whole));
        }
        // A side that has ended isn't read any more, and so wouldn't be heard to die.
        let of_client = self.up.source_ended.then(|| error_of(client.socket.as_fd())).flatten();
        let of_far = self.down.source_ended.then(|| error_of(self.far.as_fd())).flatten();
        of_client.map(Delivery::ClientGone).or(of_far.map(Delivery::BodyBroke))
    }

    fn have_ended(&self) -> bool {
        self.up.closed && self.down.closed
    }

    fn standing(&self) -> Standing {
        Standing::Tunnel { since: self.opened_at, bytes: self.up.total + self.down.total, moved: self.moved_at }
    }

    /// Something has been read that can't be written yet: the poller, which waits for reading only, can't help.
    fn is_stuck(&self) -> bool {
        self.up.is_pending() || self.down.is_pending() || self.has_unsent()
    }

    /// Waits on this thread until something can go on, but not for long.
    fn wait(&self, client: &Client, deadline: Instant) {
        let flags = |flow: &Flow, other: &Flow, unsent: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !flow.is_pending() && !flow.source_ended);
            flags.set(PollFlags::OUT, other.is_pending() || unsent);
            flags
        };
        let of_client = (client.socket.as_fd(), flags(&self.up, &self.down, false));
        let of_far = (self.far.as_fd(), flags(&self.down, &self.up, self.has_unsent()));
        // A side of which nothing is wanted would end every wait at once if it is dead.
        let wanted = [of_client, of_far].into_iter().filter(|(_, flags)| !flags.is_empty());
        let mut wanted: Vec<_> = wanted.map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags)).collect();
        // At the deadline, and when the house closes, the next round ends it.
        let _ = wait::until_any(&mut wanted, deadline.min(Instant::now() + LOOK_UP_TIME));
    }
}

impl Held {
    /// Moves what is there, until nothing is.
    fn work(mut self) {
        let tunnel = self.tunnel.clone();
        for _ in 0..ROUNDS_MAX {
            let Some(ends) = &mut self.ends else { return };
            let stepped = ends.step(&tunnel.client);
            // Not before: that the house closes may be what ends have just been read for.
            if tunnel.shared().closed {
                return self.end(Delivery::Stopped);
            }
            match stepped {
                Ok(moved) => {
                    ends.tell_ends(&tunnel.client);
                    if !moved {
                        self.pause();
                    }
                }
                Err(failed) => return self.end(failed),
            }
        }
        self.go_on_later();
    }

    /// Nothing moves: the tunnel is over, or this thread waits, or the poller does.
    fn pause(&mut self) {
        let Some(ends) = &mut self.ends else { return };
        let client = &self.tunnel.client;
        let deadline = ends.moved_at + client.front().write_timeout;
        if let Some(delivery) = ends.end(client) {
            return self.end(delivery);
        }
        if Instant::now() >= deadline {
            return self.end(Delivery::Whole);
        }
        if ends.is_stuck() {
            let _wait = ends.down.is_pending().then(|| client.begin_wait(ends.moved_at));
            return ends.wait(client, deadline);
        }
        self.ends = self.ends.take().and_then(|ends| self.tunnel.give_back(ends, deadline));
    }

    /// Lets others have the thread first.
    fn go_on_later(self) {
        let tunnel = self.tunnel.clone();
        (tunnel.run)(Box::new(move || self.work()));
    }

    fn end(&mut self, delivery: Delivery) {
        if let Some(ends) = self.ends.take() {
            self.tunnel.end(*ends, delivery);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(Delivery::Stopped);
    }
}

impl Tunnel {
    /// Joins the two; `unread` is what the client has sent already.
    pub(super) fn open(client: Arc<Client>, unread: Vec<u8>, far: Box<dyn FarSide>, care: TunnelCare) {
        let up = Flow { bytes: unread, ..Flow::default() };
        let down = Flow::default();
        let now = Instant::now();
        let ends = Box::new(Ends { far, up, down, opened_at: now, moved_at: now, failed: None, ended: care.ended });
        // There may be something to read by now, and no edge will tell: somebody looks at once.
        let shared = Shared { ends: None, pending: false, closed: false };
        let tunnel = Arc::new(Tunnel { client, run: care.run, shared: Mutex::new(shared) });
        tunnel.client.enter_tunnel(&tunnel);
        let weak = Arc::downgrade(&tunnel);
        ends.far.when_ready(Box::new(move || {
            if let Some(tunnel) = weak.upgrade() {
                tunnel.wake();
            }
        }));
        Held { tunnel, ends: Some(ends) }.work();
    }

    /// A turn of the client's socket.
    pub(super) fn turn(self: &Arc<Self>, turn: Turn) {
        match turn {
            Turn::Ready { .. } | Turn::Expired => self.wake(),
            Turn::Drain => {}
            Turn::Cut => self.cut(),
        }
    }

    /// Something has happened at one of the ends.
    fn wake(self: &Arc<Self>) {
        let ends = {
            let mut shared = self.shared();
            let ends = shared.ends.take();
            shared.pending |= ends.is_none();
            ends
        };
        if ends.is_some() {
            Held { tunnel: self.clone(), ends }.go_on_later();
        }
    }

    /// The house is closed. Nobody may be there any more to do the work, so it ends here and now, or with whoever has it.
    fn cut(self: &Arc<Self>) {
        let ends = {
            let mut shared = self.shared();
            shared.closed = true;
            shared.ends.take()
        };
        let _ = SockRef::from(&self.client.socket).set_linger(Some(Duration::ZERO));
        let _ = self.client.socket.shutdown(Shutdown::Read);
        Held { tunnel: self.clone(), ends }.end(Delivery::Stopped);
    }

    /// What the client makes of its place, unless bytes are being moved just now.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.shared().ends.as_ref().map(|ends| ends.standing())
    }

    /// Ends the tunnel in order if `goes` says so of what its client makes of its place: whether it did.
    pub(super) fn give_way(self: &Arc<Self>, goes: impl Fn(&Standing) -> bool) -> bool {
        let ends = {
            let mut shared = self.shared();
            let ends = shared.ends.take_if(|ends| goes(&ends.standing()));
            shared.closed |= ends.is_some();
            ends
        };
        let goes = ends.is_some();
        Held { tunnel: self.clone(), ends }.end(Delivery::GaveWay);
        goes
    }

    /// Gives the ends to the poller, or back if something happened meanwhile.
    fn give_back(&self, ends: Box<Ends>, deadline: Instant) -> Option<Box<Ends>> {
        let mut shared = self.shared();
        if std::mem::take(&mut shared.pending) || shared.closed {
            return Some(ends);
        }
        if let Some(watch) = self.client.watch.get() {
            watch.set_deadline(Some(deadline));
        }
        shared.ends = Some(ends);
        None
    }

    fn end(&self, ends: Ends, delivery: Delivery) {
        self.shared().closed = true;
        let Ends { mut far, ended, .. } = ends;
        match delivery {
            Delivery::Whole | Delivery::GaveWay => self.client.close(),
            _ => {
                far.abort();
                self.client.abort();
            }
        }
        self.client.seat().tunnel = None;
        drop(far);
        ended(delivery);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use crossbeam_channel::{Receiver, unbounded};
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::front::{ClientReply, Front, Limits};
    use crate::message::{Reply, ReplyBody, ReplyTo, Request};
    use crate::poller::Poller;

    const SOON: Duration = Duration::from_secs(10);

    /// A backend's side: either silent, or deaf and about to say its last words.
    struct Far {
        socket: UnixStream,
        says: io::Cursor<Vec<u8>>,
    }

    impl Read for Far {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.says.get_ref().is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.says.read(buffer) }
        }
    }

    impl Write for Far {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.says.get_ref().is_empty() { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Far {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }
    }

    impl FarSide for Far {
        fn has_unsent(&self) -> bool {
            false
        }

        fn end_writing(&mut self) {
            panic!("what couldn't be written has no orderly end");
        }

        fn abort(&mut self) {}

        fn when_ready(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }

    type Run = fn(Box<dyn FnOnce() + Send>);

    /// A client behind its 101, what becomes of its tunnel, and what stands behind it.
    fn joined(says: &[u8], run: Run) -> (TcpStream, Receiver<Delivery>, Arc<Front>, Poller) {
        let (poller, waiter) = Poller::new().expect("a poller");
        std::thread::spawn(move || waiter.run());
        let limits = Limits::new(1024, 0, &std::env::temp_dir());
        let front = Front::new(poller.clone(), limits, 8, SOON, 8);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((sender, ended), says) = (unbounded(), says.to_vec());
        let serve = move |_: Request, reply_to: ClientReply| {
            let (socket, _) = UnixStream::pair().expect("a pair");
            let far = Far { socket, says: io::Cursor::new(says.clone()) };
            let (headers, body) = (HeaderMap::new(), ReplyBody::Withheld { length: None });
            let head = Reply { status: StatusCode::SWITCHING_PROTOCOLS, headers, body };
            let sender = sender.clone();
            let ended = Box::new(move |delivery| sender.send(delivery).expect("the test listens"));
            Box::new(reply_to).join(head, Box::new(far), TunnelCare { run: Box::new(run), ended });
            Ok(())
        };
        front.listen(listener, Turn::Drain, Arc::new(serve)).expect("a listener");
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(SOON)).expect("a timeout");
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nearly").expect("the front reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        (client, ended, front, poller)
    }

    /// Was seen as: a silent tunnel that was cut when the house closed, or whose thread panicked, had no line in the log and
    /// kept its client's socket for ever.
    #[test]
    fn work_that_nobody_does_ends_the_tunnel() {
        let runs: [Run; 2] = [drop, |work| {
            let panics = std::panic::AssertUnwindSafe(|| {
                let _work = work;
                std::panic::resume_unwind(Box::new("meant"));
            });
            let _ = std::panic::catch_unwind(panics);
        }];
        for run in runs {
            let (mut client, ended, front, poller) = joined(b"", run);
            let deadline = Instant::now() + SOON;
            // The first bytes may come while the tunnel is still being made.
            let delivery = loop {
                let _ = client.write(b"x");
                if let Ok(delivery) = ended.recv_timeout(Duration::from_millis(10)) {
                    break delivery;
                }
                assert!(Instant::now() < deadline, "the tunnel is never heard of again");
            };
            assert!(matches!(delivery, Delivery::Stopped), "{delivery:?}");
            assert!(client.read(&mut [0]).is_err(), "a reset");
            while front.connections() > 0 {
                std::thread::yield_now();
            }
            poller.stop();
        }
    }

    /// Was seen as: a backend that said why it closed, and was written to at the same moment, wasn't heard.
    #[test]
    fn the_last_words_of_a_side_that_takes_nothing_any_more_are_heard() {
        let words = vec![b'w'; 30_000];
        let (mut client, ended, _front, poller) = joined(&words, |work| work());
        let mut heard = vec![0; words.len()];
        client.read_exact(&mut heard).expect("the last words");
        assert_eq!(heard, words);
        assert!(client.read(&mut [0]).is_err(), "a reset, since what the client said was lost");
        assert!(matches!(ended.recv_timeout(SOON), Ok(Delivery::BodyBroke(_))));
        poller.stop();
    }
}
