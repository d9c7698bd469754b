//! When the legs start that don't start with their race: *as soon as the race is that old, or every leg that was started before
//! has lost, whichever is first.* Knows nothing of what a leg is, nor of clocks.

use std::time::Duration;

/// When one leg starts, by the age of its race, if the legs before it haven't all lost by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this age.
    At(Duration),
    /// At this age if the budget allows it, and else at the second one.
    Budgeted(Duration, Duration),
    /// At no age: only when all others have lost.
    LastResort,
}

/// The legs of a race that haven't started.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Timetable {
    /// By their ages, in falling order: the next one is the last. Those of one age are a tier.
    waiting: Vec<Waiting>,
    /// Legs that have started and may win, but for whose end no other waits.
    beside: Vec<usize>,
    /// Whether last resorts start one after the other, each when the one before it has lost.
    is_one_by_one: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    /// The longest duration for a last resort.
    age: Duration,
    /// The age at which it starts without a budget, if it needs one before.
    at_latest: Option<Duration>,
    leg: usize,
}

impl Timetable {
    /// Has these legs start one after the other, each only when all before it have lost.
    pub fn one_by_one(legs: &[usize]) -> Timetable {
        let mut timetable = Timetable { is_one_by_one: true, ..Timetable::default() };
        for leg in legs {
            timetable.add(*leg, Start::LastResort);
        }
        timetable
    }

    /// Has a leg start then.
    pub fn add(&mut self, leg: usize, start: Start) {
        let (age, at_latest) = match start {
            Start::At(age) => (age, None),
            Start::Budgeted(age, at_latest) => (age, (at_latest > age).then_some(at_latest)),
            Start::LastResort => (Duration::MAX, None),
        };
        self.insert(Waiting { age, at_latest, leg });
    }

    /// Has no other leg wait for the end of this one, which starts with the race, or just now.
    pub fn add_beside(&mut self, leg: usize) {
        self.beside.push(leg);
    }

    /// How many legs haven't started.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it keeps this leg back.
    pub fn has(&self, leg: usize) -> bool {
        self.waiting.iter().any(|waiting| waiting.leg == leg)
    }

    /// The age at which the next leg starts, if one does by age.
    pub fn next_age(&self) -> Option<Duration> {
        self.waiting.last().map(|next| next.age).filter(|age| *age < Duration::MAX)
    }

    /// How many legs run beside the others.
    pub(super) fn beside(&self) -> usize {
        self.beside.len()
    }

    /// Notes that a leg has ended, or waits for the others.
    pub(super) fn end_beside(&mut self, leg: usize) {
        self.beside.retain(|beside| *beside != leg);
    }

    /// Takes out the next tier.
    pub fn take_next(&mut self) -> Option<Vec<usize>> {
        if self.is_one_by_one {
            return self.waiting.pop().map(|waiting| vec![waiting.leg]);
        }
        let age = self.waiting.last()?.age;
        let first = self.waiting.partition_point(|waiting| waiting.age > age);
        Some(self.waiting.drain(first..).rev().map(|waiting| waiting.leg).collect())
    }

    /// Takes out the legs whose age this is or was; those that lack a budget wait for their second one.
    pub(super) fn take_due(&mut self, age: Duration, mut has_budget: impl FnMut(usize) -> bool) -> Vec<usize> {
        let mut legs = Vec::new();
        while let Some(next) = self.waiting.pop_if(|next| next.age <= age && next.age < Duration::MAX) {
            match next.at_latest {
                Some(at_latest) if !has_budget(next.leg) => {
                    self.insert(Waiting { age: at_latest, at_latest: None, ..next });
                }
                _ => legs.push(next.leg),
            }
        }
        legs
    }

    /// Has legs that would start by age, and are such ones, start only when all others have lost.
    pub(super) fn defer(&mut self, mut is_meant: impl FnMut(usize) -> bool) {
        let by_age = self.waiting.iter().rev().filter(|waiting| waiting.age < Duration::MAX);
        let deferred: Vec<usize> = by_age.map(|waiting| waiting.leg).filter(|leg| is_meant(*leg)).collect();
        self.waiting.retain(|waiting| !deferred.contains(&waiting.leg));
        for leg in deferred {
            self.add(leg, Start::LastResort);
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.waiting).into_iter().rev().map(|waiting| waiting.leg).collect()
    }

    fn insert(&mut self, waiting: Waiting) {
        // Before those of the same age: they were added earlier, and start first.
        let at = self.waiting.partition_point(|other| other.age > waiting.age);
        self.waiting.insert(at, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_that_start_one_by_one_keep_their_order() {
        let mut timetable = Timetable::one_by_one(&[2, 0, 3]);
        assert_eq!((timetable.len(), timetable.next_age()), (3, None));
        assert_eq!([(); 4].map(|()| timetable.take_next()), [Some(vec![2]), Some(vec![0]), Some(vec![3]), None]);
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `a, b after=200ms, c after=500ms, d after=200ms`, and one that was deferred.
    fn timetable() -> Timetable {
        let mut timetable = Timetable::default();
        for (leg, start) in
            [(1, Start::At(ms(200))), (2, Start::At(ms(500))), (3, Start::At(ms(200))), (4, Start::LastResort)]
        {
            timetable.add(leg, start);
        }
        timetable
    }

    #[test]
    fn legs_start_by_age_in_the_order_of_the_list() {
        let mut timetable = timetable();
        assert_eq!((timetable.len(), timetable.next_age()), (4, Some(ms(200))));
        assert_eq!(timetable.take_due(ms(199), |_| false), [0; 0]);
        assert_eq!(timetable.take_due(ms(200), |_| false), [1, 3]);
        assert_eq!(timetable.next_age(), Some(ms(500)));
        assert_eq!(timetable.take_due(ms(9999), |_| false), [2]);
        assert_eq!((timetable.next_age(), timetable.take_due(Duration::MAX, |_| false)), (None, vec![]));
        assert_eq!((timetable.take_next(), timetable.take_next()), (Some(vec![4]), None));
    }

    #[test]
    fn a_failure_starts_the_next_tier_alone() {
        let mut timetable = timetable();
        assert_eq!(timetable.take_next(), Some(vec![1, 3]));
        assert_eq!(timetable.take_due(ms(400), |_| true), [0; 0], "the others keep their times");
        assert_eq!((timetable.take_next(), timetable.take_all()), (Some(vec![2]), vec![4]));
    }

    #[test]
    fn a_leg_that_is_deferred_starts_with_the_last_resorts() {
        let mut timetable = timetable();
        timetable.defer(|leg| {
            assert_ne!(leg, 4, "it is one already");
            leg == 1 || leg == 2
        });
        assert_eq!((timetable.len(), timetable.take_due(ms(9999), |_| true)), (4, vec![3]));
        assert_eq!((timetable.next_age(), timetable.take_next()), (None, Some(vec![4, 1, 2])));
    }

    #[test]
    fn without_a_budget_a_leg_waits_for_its_second_age() {
        let mut timetable = Timetable::default();
        timetable.add(1, Start::Budgeted(ms(20), ms(500)));
        timetable.add(2, Start::At(ms(100)));
        timetable.add(3, Start::Budgeted(ms(20), ms(20)));
        let mut asked = Vec::new();
        let due = timetable.take_due(ms(20), |leg| {
            asked.push(leg);
            false
        });
        assert_eq!((due, asked, timetable.next_age()), (vec![3], vec![1], Some(ms(100))));
        assert_eq!(timetable.take_due(ms(100), |_| false), [2]);
        assert_eq!(timetable.take_due(ms(500), |_| panic!("it is asked once")), [1]);
    }

    #[test]
    fn a_budget_is_not_asked_where_the_others_have_failed() {
        let mut timetable = Timetable::default();
        timetable.add(1, Start::Budgeted(ms(20), ms(500)));
        assert_eq!(timetable.take_next(), Some(vec![1]));
    }
}
