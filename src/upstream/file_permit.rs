//! The file of a request's body, as far as it counts as a connection. Knows nothing of files.

use crate::runtime::sync::Mutex;
use crate::upstream::permit::Permit;
use crate::upstream::pool::Pool;

/// The permit of a connection that the file of a request's body takes, for the sake of one loser that still sends it: until the
/// race is decided the client's own place stands for the file, but then the client may send another.
#[derive(Default)]
pub struct FilePermit(Mutex<Taken>);

#[derive(Default)]
enum Taken {
    #[default]
    NotYet,
    Now(#[expect(dead_code, reason = "it counts as long as it is there")] Permit),
    NoMore,
}

impl FilePermit {
    /// Takes the permit: the race is decided, and this leg may not have ended. The file is open already, so nothing can be
    /// refused; but its backend has fewer connections meanwhile.
    pub fn take(&self, pool: &Pool) {
        let mut taken = self.0.lock();
        if matches!(*taken, Taken::NotYet) {
            *taken = Taken::Now(pool.endpoint().counted_permit());
        }
    }

    /// Releases the permit for good: the leg has ended.
    pub fn release(&self) {
        *self.0.lock() = Taken::NoMore;
    }
}
