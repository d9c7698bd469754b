//! Waiting for sockets on the very thread that needs them, with a deadline. Of the threads that run legs only so many run
//! at once: one that is about to wait hands its place on, so that another can run meanwhile.
//! Knows nothing of what the sockets are, nor of who gets the place.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::sync::{Arc, thread_local};

/// Who gives out the places.
pub trait Places: Send + Sync {
    /// The current thread is about to wait: somebody else may run.
    fn step_aside(&self);
    /// It goes on running.
    fn step_back(&self);
    /// The current thread has been running for long, and goes on: somebody who waits may run beside it.
    fn make_room(&self);
}

/// Moved between two such looks: about a millisecond's work.
const BYTES_BETWEEN_LOOKS: usize = 512 * 1024;

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
    static HELD: RefCell<Option<Arc<dyn Places>>> = const { RefCell::new(None) };
    static MOVED: Cell<usize> = const { Cell::new(0) };
}

/// The current thread mustn't wait: others wait for it. What would have to wait is an error of kind `WouldBlock`.
pub fn forbid() {
    FORBIDDEN.with(|forbidden| forbidden.set(true));
}

/// The current thread holds a place from now on, until it ends.
pub fn hold_place(places: Arc<dyn Places>) {
    HELD.with(|held| held.replace(Some(places)));
}

/// Does something that may wait long. A thread that holds a place gives it up meanwhile.
pub fn aside<T>(wait: impl FnOnce() -> T) -> T {
    let Some(places) = HELD.with(|held| held.borrow().clone()) else { return wait() };
    places.step_aside();
    // Also if the wait panics.
    let _back = StepBack(places);
    wait()
}

/// The current thread has moved so many bytes. One that never has to wait would keep its place for as long as a transfer
/// takes, so every now and then others get one beside it.
pub fn moved(bytes: usize) {
    let total = MOVED.with(|moved| moved.replace(0)) + bytes;
    if total < BYTES_BETWEEN_LOOKS {
        return MOVED.with(|moved| {
            moved.replace(total);
        });
    }
    if let Some(places) = HELD.with(|held| held.borrow().clone()) {
        places.make_room();
    }
}

struct StepBack(Arc<dyn Places>);

impl Drop for StepBack {
    fn drop(&mut self) {
        self.0.step_back();
    }
}

/// Waits until the socket can be read; an error of kind `TimedOut` at the deadline. Hanging up on the socket ends the wait.
pub fn until_readable(socket: impl AsFd, deadline: Instant) -> io::Result<()> {
    until_any(&mut [PollFd::new(&socket, PollFlags::IN)], deadline)
}

/// Waits until the socket can be written to; an error of kind `TimedOut` at the deadline.
pub fn until_writable(socket: impl AsFd, deadline: Instant) -> io::Result<()> {
    until_any(&mut [PollFd::new(&socket, PollFlags::OUT)], deadline)
}

/// Waits until one of the sockets is ready: which, its `revents` say.
pub fn until_any(sockets: &mut [PollFd], deadline: Instant) -> io::Result<()> {
    // Often there is nothing to wait for: a connection within a host, say. Then the place needn't change hands.
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(sockets, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0) {
        return Ok(());
    }
    if FORBIDDEN.with(Cell::get) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match aside(|| poll(sockets, Some(&timeout))) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count {
        away: AtomicI32,
        waits: AtomicU32,
        room: AtomicU32,
    }

    impl Places for Count {
        fn step_aside(&self) {
            self.away.fetch_add(1, Ordering::SeqCst);
            self.waits.fetch_add(1, Ordering::SeqCst);
        }

        fn step_back(&self) {
            self.away.fetch_sub(1, Ordering::SeqCst);
        }

        fn make_room(&self) {
            self.room.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_place_is_given_up_for_the_wait_and_no_longer() {
        let count = Arc::new(Count::default());
        let places = count.clone();
        std::thread::spawn(move || {
            hold_place(places.clone());
            assert_eq!(aside(|| places.away.load(Ordering::SeqCst)), 1);
            assert_eq!(places.away.load(Ordering::SeqCst), 0);
            let panicked = std::panic::catch_unwind(|| aside(|| panic!("meant")));
            assert!(panicked.is_err() && places.away.load(Ordering::SeqCst) == 0);
        })
        .join()
        .expect("no panic");
        assert_eq!(aside(|| count.waits.load(Ordering::SeqCst)), 2, "a thread without a place just waits");
    }

    #[test]
    fn a_thread_that_must_not_wait_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let hour = Instant::now() + Duration::from_secs(3600);
        let waits = move || {
            forbid();
            [until_readable(&near, hour), until_writable(&near, hour)]
                .map(|waited| waited.map_err(|error| error.kind()))
        };
        let waited = std::thread::spawn(waits).join().expect("no panic");
        assert_eq!(waited, [Err(io::ErrorKind::WouldBlock), Ok(())]);
    }

    #[test]
    fn a_thread_that_moves_much_makes_room_now_and_then() {
        let count = Arc::new(Count::default());
        let places = count.clone();
        std::thread::spawn(move || {
            hold_place(places);
            (0..64).for_each(|_| moved(16 * 1024));
        })
        .join()
        .expect("no panic");
        moved(usize::MAX / 2);
        assert_eq!(count.room.load(Ordering::SeqCst), 2, "a thread without a place keeps nobody from one");
    }

    #[test]
    fn a_silent_socket_times_out_and_one_that_ends_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (far, _) = listener.accept().expect("a connection");
        let soon = Instant::now() + Duration::from_millis(10);
        assert_eq!(until_readable(&near, soon).map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        drop(far);
        assert!(until_readable(&near, Instant::now() + Duration::from_secs(10)).is_ok());
    }
}
