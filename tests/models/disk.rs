//! A model of a leg whose request lies in a file, which a thread for the disk reads while events and a hang-up come: on a real pair
//! of sockets, none of whose calls waits.

use std::io::{ErrorKind, Read, Write};
use std::sync::LazyLock;
use std::time::Instant;

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use socket2::{Domain, Socket, Type};

use crate::message::Spool;
use crate::parked::Parked;
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, Poller};
use crate::runtime::sync::channel::{Receiver, Sender, bounded, unbounded};
use crate::runtime::sync::thread::{scope, yield_now};
use crate::runtime::sync::{chance, pick};
use crate::upstream::conn::connection::{Connection, FileRead};
use crate::upstream::conn::parking::{Readiness, Waiter};
use crate::upstream::conn::request_bytes::RequestBytes;
use crate::upstream::conn::request_writer::Progress;
use crate::waits::{self, LONG};

/// A little more than its sockets take at once.
const BODY_BYTES: usize = 6 * 1024;

/// A body that has no place in memory.
static BODY: LazyLock<Spool> = LazyLock::new(|| waits::in_file(&bytes()));

fn bytes() -> Vec<u8> {
    (0..BODY_BYTES).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

type Work = Box<dyn FnOnce() + Send>;

/// A leg that sends, as `proxy::exchange` has it.
struct Leg {
    connection: Arc<Connection>,
    token: CancelToken,
    parked: Parked<()>,
    disk: Sender<Option<Work>>,
    is_running: AtomicBool,
    ended: Sender<Progress>,
}

impl Waiter for Leg {
    fn wake(self: Arc<Self>, _: usize) {
        if self.parked.take_or_notify(|()| true).is_some() {
            self.run();
        }
    }
}

impl Leg {
    fn park_until(self: &Arc<Self>, readiness: &Arc<dyn Readiness>, read: Option<FileRead>) {
        let is_parked = readiness.park(self.clone(), 0);
        match self.parked.park((), read.is_some()) {
            Ok(is_asked_for) => {
                if let Some(read) = read.filter(|_| is_asked_for) {
                    self.read_for(read);
                }
            }
            Err(()) => {
                readiness.withdraw();
                return self.run();
            }
        }
        if !is_parked {
            self.clone().wake(0);
        }
    }

    fn read_for(self: &Arc<Self>, read: FileRead) {
        let leg = Arc::downgrade(self);
        let work: Work = Box::new(move || {
            read.run();
            let Some(leg) = leg.upgrade() else { return };
            if leg.parked.end_read(|()| true).is_some() {
                read.withdraw_leg();
                leg.run();
            }
        });
        self.disk.send(Some(work)).expect("the disk");
    }

    fn run(self: &Arc<Self>) {
        assert!(!self.is_running.swap(true, Ordering::SeqCst), "one thread at a time runs it");
        let is_over = self.token.is_cancelled();
        let progress = if is_over { Progress::Aborted } else { self.connection.send_more(None, LONG) };
        self.is_running.store(false, Ordering::SeqCst);
        match progress {
            Progress::Yield(until) => {
                let (read, readiness) = self.connection.file_read_until(until).expect("its time isn't over");
                self.park_until(&readiness, Some(read));
            }
            Progress::Blocked(until) => {
                self.connection.set_deadline(until);
                let readiness: Arc<dyn Readiness> = self.connection.clone();
                self.park_until(&readiness, None);
            }
            progress => {
                let _ = self.token.disarm();
                self.ended.send(progress).expect("it ends once");
            }
        }
    }
}

pub fn a_leg_whose_file_is_read_goes_on_once_and_leaves_its_place_to_the_next() {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    near.set_nonblocking(true).expect("a socket");
    near.set_send_buffer_size(4096).expect("a small buffer");
    far.set_nonblocking(true).expect("a socket");
    let is_hung_up_on = chance(3);
    let (poller, token) = (Poller::default(), CancelToken::default());
    let connection = Connection::open(near, &poller).expect("a place in the poller");
    token.arm(connection.clone()).expect("nothing has been cancelled");
    connection.begin_request(RequestBytes::new(b"head".to_vec(), Some(BODY.clone())));
    let ((disk, work), (ended, end)) = (unbounded(), bounded(1));
    scope(|scope| {
        scope.spawn(|| poller.run());
        let reader = scope.spawn(|| read_files(&work));
        let backend = scope.spawn(|| take_and_answer(&far, &poller));
        let other = scope.spawn(|| if is_hung_up_on { token.cancel() } else { disturb(&poller) });
        let leg = Arc::new(Leg {
            connection: connection.clone(),
            token: token.clone(),
            parked: Parked::default(),
            disk: disk.clone(),
            is_running: AtomicBool::new(false),
            ended,
        });
        leg.run();
        let progress = end.recv().expect("it ends");
        if progress == Progress::Done && !token.is_cancelled() {
            // The connection's next user waits at the same place.
            connection.withdraw();
            waits::until_answered(&connection);
        } else {
            assert!(is_hung_up_on, "{progress:?}");
            connection.hang_up();
        }
        other.join().expect("no panic");
        drop(leg);
        disk.send(None).expect("the disk");
        reader.join().expect("no panic");
        assert_eq!(backend.join().expect("no panic"), !is_hung_up_on || progress == Progress::Done);
        poller.stop();
    });
}

fn read_files(work: &Receiver<Option<Work>>) {
    while let Ok(Some(work)) = work.recv() {
        work();
    }
}

/// Events of which the leg learns nothing.
fn disturb(poller: &Poller) {
    for _ in 0..pick(4) {
        poller.broadcast(Event::Ready { read_closed: false, dead: false });
        yield_now();
    }
}

/// Reads the request, with an event for each piece, and answers. Gives whether it has arrived whole.
fn take_and_answer(mut far: &Socket, poller: &Poller) -> bool {
    let (mut taken, mut buffer) = (Vec::new(), [0; 4 * 1024]);
    while taken.len() < 4 + BODY_BYTES {
        match far.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now(),
            Ok(0) | Err(_) => return false,
            Ok(count) => {
                taken.extend_from_slice(&buffer[..count]);
                poller.broadcast(Event::Ready { read_closed: false, dead: false });
            }
        }
    }
    assert!(taken[4..] == bytes()[..] && taken.starts_with(b"head"), "every byte once and in order");
    let is_shut = far.write(b"answer").is_err();
    poller.broadcast(Event::Ready { read_closed: is_shut, dead: is_shut });
    true
}
