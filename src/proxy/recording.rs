//! What is kept of a race for an operator who asks later.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;

use super::exchange::Exchange;
use super::leg::Leg;
use crate::message::proxy_status::How;
use crate::message::{Outcome, status_of_loss};
use crate::metrics::{LegEnd, Note, RaceEnd, RecentRace};

impl Exchange {
    /// Keeps the race, if it is wanted, now that every leg has ended.
    pub(super) fn keep(
        &self,
        end: RaceEnd,
        winner: Option<usize>,
        is_rescue: bool,
        reply: Option<Duration>,
        ends: &[LegEnd],
    ) {
        let now = Instant::now();
        let note = self.note_on(end, winner, is_rescue, reply);
        if !self.context.recent.try_reserve(note, reply.unwrap_or_default(), now) {
            return;
        }
        let arrived = SystemTime::now().checked_sub(self.race.elapsed(now)).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut race =
            RecentRace::new(self.entry.id().clone(), arrived, self.request.method(), self.request.target(), end);
        race.winner = winner;
        race.status = match (winner.map(|winner| ends[winner].outcome), end) {
            (Some(Outcome::Status(status)), _) => Some(*status),
            (_, RaceEnd::Lost) => Some(status_of_loss(ends.iter().map(|leg| leg.outcome))),
            (Some(_), _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
            (None, _) => None,
        };
        race.after = reply.or_else(|| ends.iter().map(|leg| leg.ended).max()).unwrap_or_default();
        race.note = note;
        race.set_legs(self.legs.iter().zip(ends).map(|(leg, end)| (leg.started.get().copied(), end)));
        let names = self.legs.iter().map(|leg| leg.backend.full_name().to_owned()).collect();
        self.context.recent.keep(race, names);
    }

    /// Why the race is worth a look.
    fn note_on(&self, end: RaceEnd, winner: Option<usize>, is_rescue: bool, reply: Option<Duration>) -> Option<Note> {
        let is_hedge = |leg: &Leg| leg.how() == How::Hedge;
        if end == RaceEnd::Lost {
            Some(Note::Lost)
        } else if is_rescue {
            Some(Note::Rescue)
        } else if winner.is_some_and(|winner| !is_hedge(&self.legs[winner])) && self.legs.iter().any(is_hedge) {
            Some(Note::HedgedInVain)
        } else {
            reply.filter(|waited| self.context.recent.is_slow(*waited)).map(|_| Note::Slow)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::super::scenario::{LINGER, Scenario, request};
    use crate::config::Config;

    /// Of a request that isn't raced, whose used connection dies, and for which there is no room for another: the second backend
    /// isn't needed then.
    #[test]
    fn the_status_of_a_loss_is_the_one_that_the_client_got() {
        let config = Config { race_methods: Some(vec![Method::GET]), ..Config::default() };
        let mut race = Scenario::with(2, LINGER, config);
        let client = race.begin(request(Method::PUT, &[], None));
        race.ends[0].receives_head();
        race.ends[0].ends();
        assert_eq!(client.takes_reply().0, 503);
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone());
        assert_eq!(race.proxy.recent().last(1)[0].status, Some(StatusCode::SERVICE_UNAVAILABLE));
    }
}
