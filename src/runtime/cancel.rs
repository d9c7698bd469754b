//! The token that hangs up a leg, from any thread and in any phase: while the leg resolves a name, connects, sends, waits or
//! reads. Knows nothing of what is hung up on.

use std::fmt;

use super::sync::{Arc, Mutex};

/// Ends the wait of a leg. Called under the token's lock: it must not block.
pub trait HangUp: Send + Sync {
    /// Ends the wait at once.
    fn hang_up(&self);
}

/// A group that lingers until its time is over: the losers of a decided race, for one.
pub trait Losers: Send + Sync {
    /// Hangs up on all of the group but the winner, if it is one of them.
    fn hang_up(&self, winner: Option<usize>);

    /// Hangs up on those that were spared from that, for the sake of a longer look, if there are any.
    fn hang_up_spared(&self) {}
}

/// A leg's token. Clones share it.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    /// The leg waits on nothing.
    #[default]
    Free,
    Armed(Arc<dyn HangUp>),
    Cancelled,
}

/// The leg has been hung up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl CancelToken {
    /// Hangs up on what is armed, and on anything that is armed later. Any thread, any number of times.
    pub fn cancel(&self) {
        let mut state = self.0.lock();
        if let State::Armed(wait) = std::mem::replace(&mut *state, State::Cancelled) {
            // Under the lock: once `disarm` has returned, no late cancel can hit the next user of the same socket.
            wait.hang_up();
        }
    }

    /// Names what the leg waits on from now on.
    pub fn arm(&self, wait: Arc<dyn HangUp>) -> Result<(), Cancelled> {
        let mut state = self.0.lock();
        if matches!(*state, State::Cancelled) {
            return Err(Cancelled);
        }
        *state = State::Armed(wait);
        Ok(())
    }

    /// Names nothing any more. An error if the leg was hung up on before: then what was armed is unusable.
    pub fn disarm(&self) -> Result<(), Cancelled> {
        let mut state = self.0.lock();
        if matches!(*state, State::Cancelled) {
            return Err(Cancelled);
        }
        *state = State::Free;
        Ok(())
    }

    /// Whether the leg has been hung up on.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0.lock(), State::Cancelled)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl HangUp for Count {
        fn hang_up(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn what_is_armed_is_hung_up_on_once() {
        let (token, wait) = (CancelToken::default(), Arc::new(Count::default()));
        assert_eq!(token.arm(wait.clone()), Ok(()));
        token.cancel();
        token.cancel();
        assert_eq!(wait.get(), 1);
        assert_eq!(token.disarm(), Err(Cancelled));
    }

    #[test]
    fn a_late_cancel_misses_what_was_disarmed() {
        let (token, wait) = (CancelToken::default(), Arc::new(Count::default()));
        assert_eq!(token.arm(wait.clone()), Ok(()));
        assert_eq!(token.disarm(), Ok(()));
        token.cancel();
        assert_eq!(wait.get(), 0);
    }

    #[test]
    fn nothing_can_be_armed_after_a_cancel() {
        let (token, wait) = (CancelToken::default(), Arc::new(Count::default()));
        token.cancel();
        assert_eq!(token.arm(wait.clone()), Err(Cancelled));
        assert!(token.is_cancelled());
        assert_eq!(wait.get(), 0);
    }
}
