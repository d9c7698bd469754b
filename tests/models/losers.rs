//! Models of `runtime/cancel.rs` and `race/reaper.rs`.

use std::sync::Mutex as Cell;
use std::time::{Duration, Instant};

use shuttle::sync::Condvar;

use crate::race::{Linger, Race, Reaper};
use crate::runtime::cancel::{CancelToken, HangUp};
use crate::runtime::poller::{Event, Poller};
use crate::runtime::sync::thread::{scope, yield_now};
use crate::runtime::sync::{Arc, Mutex, chance};

/// A socket that one leg after the other uses.
struct Socket {
    user: Cell<u32>,
    hung_up_on: Cell<Vec<u32>>,
}

impl HangUp for Socket {
    fn hang_up(&self) {
        // It takes its time.
        yield_now();
        let user = *self.user.lock().expect("no panic");
        self.hung_up_on.lock().expect("no panic").push(user);
    }
}

pub fn a_late_cancel_misses_what_was_disarmed() {
    let socket = Arc::new(Socket { user: Cell::new(1), hung_up_on: Cell::default() });
    let token = CancelToken::default();
    scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| token.cancel());
        }
        let armed = token.arm(socket.clone());
        yield_now();
        let hung_up_on = || socket.hung_up_on.lock().expect("no panic").clone();
        match armed.and_then(|()| token.disarm()) {
            Ok(()) => {
                *socket.user.lock().expect("no panic") = 2;
                assert!(hung_up_on().is_empty());
            }
            Err(_) if armed.is_ok() => assert_eq!(hung_up_on(), [1], "a cancelled leg finds its socket shut"),
            Err(_) => {}
        }
    });
    let hung_up_on = socket.hung_up_on.lock().expect("no panic");
    assert!(hung_up_on.is_empty() || *hung_up_on == [1], "{hung_up_on:?}");
    assert!(token.is_cancelled());
}

/// Rings when a leg is hung up on.
#[derive(Default)]
struct Bell {
    has_rung: Mutex<bool>,
    rings: Condvar,
}

impl HangUp for Bell {
    fn hang_up(&self) {
        *self.has_rung.lock() = true;
        self.rings.notify_all();
    }
}

impl Bell {
    fn wait(&self) {
        let rung = self.has_rung.lock();
        drop(self.rings.wait_while(rung, |rung| !*rung));
    }
}

/// Two legs, of which the first wins. The loser has armed its token with the bell.
struct Decided {
    race: Arc<Race<(), ()>>,
    bell: Arc<Bell>,
}

impl Decided {
    fn new() -> Decided {
        let decided = Decided { race: Arc::new(Race::new(2, (), Instant::now())), bell: Arc::default() };
        decided.race.token(1).arm(decided.bell.clone()).expect("not yet hung up on");
        decided
    }
}

pub fn every_loser_is_hung_up_on() {
    let second = Duration::from_secs(1);
    let long_ago = Instant::now().checked_sub(second * 3).expect("the clock runs for three seconds");
    // The time of some may not be over for long.
    let not_safe = if chance(2) { second * 2 } else { second * 3600 };
    reap(Linger { safe: second, not_safe, ..Linger::NONE }, long_ago, false);
}

pub fn nobody_lingers_in_a_closed_house() {
    let hour = Duration::from_secs(3600);
    reap(Linger { safe: hour, not_safe: hour, ..Linger::NONE }, Instant::now(), true);
}

/// Decides three races at once, while the poller's thread runs and a shutdown may cut. Every loser whose time is over is waited
/// for.
fn reap(linger: Linger, taken_at: Instant, closes: bool) {
    let poller = Poller::default();
    let reaper = Reaper::new(linger, &poller);
    let races: Vec<(Decided, bool)> = (0..3).map(|_| (Decided::new(), chance(2))).collect();
    scope(|scope| {
        scope.spawn(|| poller.run());
        for (decided, is_safe) in &races {
            scope.spawn(|| {
                // One whose losers have ended stands in nobody's way.
                let ended = Decided::new().race;
                let place = reaper.take(&ended, Some(0), *is_safe, taken_at);
                reaper.take(&decided.race, Some(0), *is_safe, taken_at);
                if let Some(place) = place {
                    reaper.withdraw(place);
                }
            });
        }
        if closes {
            if chance(2) {
                poller.broadcast(Event::Drain);
            }
            poller.broadcast(Event::Cut);
        }
        for (decided, is_safe) in &races {
            let until = taken_at + if *is_safe { linger.safe } else { linger.not_safe };
            if closes || until <= Instant::now() {
                // For ever, if the loser isn't hung up on.
                decided.bell.wait();
            }
            assert_eq!(decided.race.token(1).is_cancelled(), closes || until <= Instant::now());
            assert!(!decided.race.token(0).is_cancelled(), "the winner runs on");
        }
        poller.stop();
    });
}
