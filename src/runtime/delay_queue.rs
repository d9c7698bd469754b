//! Values that wait equally long. Knows nothing of who takes them when their time has come.

use std::collections::VecDeque;
use std::time::Instant;

/// A queue of values by the time when they are due. Each is pushed with a time no earlier than those before it, or it waits for them.
#[derive(Debug)]
pub struct DelayQueue<T> {
    /// `None` for what has been withdrawn; never the first.
    entries: VecDeque<(Instant, Option<T>)>,
    /// The count of entries that came before these.
    gone: u64,
}

/// The place of a value in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayPlace(u64);

impl<T> Default for DelayQueue<T> {
    fn default() -> DelayQueue<T> {
        DelayQueue { entries: VecDeque::new(), gone: 0 }
    }
}

impl<T> DelayQueue<T> {
    /// Has a value wait until it is due.
    pub fn push(&mut self, due: Instant, value: T) -> DelayPlace {
        self.entries.push_back((due, Some(value)));
        DelayPlace(self.gone + self.entries.len() as u64 - 1)
    }

    /// Takes out the value of this place, if it is still there.
    pub fn withdraw(&mut self, place: DelayPlace) -> Option<T> {
        let at = usize::try_from(place.0.checked_sub(self.gone)?).ok()?;
        let value = self.entries.get_mut(at)?.1.take();
        self.skip_withdrawn();
        value
    }

    /// Takes out the first value, if it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.entries.front().is_some_and(|(due, _)| *due <= now).then(|| self.pop())?
    }

    /// Takes out the first value.
    pub fn pop(&mut self) -> Option<T> {
        let (_, value) = self.entries.pop_front()?;
        self.gone += 1;
        self.skip_withdrawn();
        value
    }

    /// When the first value is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.front().map(|(due, _)| *due)
    }

    /// The count of values, with those that were withdrawn before others were due.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    fn skip_withdrawn(&mut self) {
        while self.entries.front().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_front();
            self.gone += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_come_out_in_order_once_they_are_due() {
        let (mut queue, now, second) = (DelayQueue::default(), Instant::now(), Duration::from_secs(1));
        for (after, value) in [(1, "a"), (1, "b"), (2, "c")] {
            queue.push(now + second * after, value);
        }
        assert_eq!((queue.pop_due(now), queue.next_due()), (None, Some(now + second)));
        assert_eq!([(); 3].map(|()| queue.pop_due(now + second)), [Some("a"), Some("b"), None]);
        assert_eq!((queue.pop(), queue.pop(), queue.next_due()), (Some("c"), None, None));
    }

    #[test]
    fn what_is_withdrawn_leaves_nothing_behind() {
        let (mut queue, now) = (DelayQueue::default(), Instant::now());
        let places = ["a", "b", "c"].map(|value| queue.push(now, value));
        assert_eq!((queue.withdraw(places[1]), queue.withdraw(places[1]), queue.count()), (Some("b"), None, 3));
        assert_eq!((queue.withdraw(places[0]), queue.count()), (Some("a"), 1));
        assert_eq!((queue.withdraw(places[2]), queue.count(), queue.next_due()), (Some("c"), 0, None));
        let place = queue.push(now, "d");
        assert_eq!(places.map(|place| queue.withdraw(place)), [None; 3], "places aren't used twice");
        assert_eq!((queue.pop_due(now), queue.withdraw(place)), (Some("d"), None));
    }
}
