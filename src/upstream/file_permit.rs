//! The file of a request's body, as far as it counts as one of the connections that there may be. Knows nothing of files.

use crate::runtime::sync::Mutex;

use crate::upstream::permit::Permit;
use crate::upstream::pool::Pool;

/// The place of a line that the file of a request's body takes, for the sake of one loser that still sends it: until the race
/// is decided the client's own place stands for the file, but then it may send another.
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
    /// The race is decided, and this leg may not have ended. The file is there, so nobody is asked; but its backend has fewer
    /// lines meanwhile.
    pub fn take(&self, pool: &Pool) {
        let mut taken = self.0.lock();
        if matches!(*taken, Taken::NotYet) {
            *taken = Taken::Now(pool.counted_permit());
        }
    }

    /// The leg has ended.
    pub fn release(&self) {
        *self.0.lock() = Taken::NoMore;
    }
}
