//! What is kept of a race for an operator who asks later.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;

use super::exchange::Exchange;
use crate::message::Outcome;
use crate::metrics::{Gain, LegEnd, RaceEnd, RecentRace};

impl Exchange {
    /// Keeps the race, if it is wanted, now that every leg has ended.
    pub(super) fn keep(
        &self,
        end: RaceEnd,
        winner: Option<usize>,
        gain: Gain,
        reply: Option<Duration>,
        ends: &[LegEnd],
    ) {
        let now = Instant::now();
        let is_noteworthy = end == RaceEnd::Lost || gain == Gain::Rescue;
        if !self.context.recent.try_reserve(is_noteworthy, now) {
            return;
        }
        let arrived = SystemTime::now().checked_sub(self.race.elapsed(now)).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut race =
            RecentRace::new(self.entry.id().clone(), arrived, self.request.method(), self.request.target(), end);
        race.winner = winner;
        race.status = match (winner.map(|winner| ends[winner].outcome), end) {
            (Some(Outcome::Status(status)), _) => Some(*status),
            (_, RaceEnd::Lost) => Some(status_of_loss(ends)),
            (Some(_), _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
            (None, _) => None,
        };
        race.after = reply.or_else(|| ends.iter().map(|leg| leg.ended).max()).unwrap_or_default();
        race.is_rescue = gain == Gain::Rescue;
        race.set_legs(self.legs.iter().zip(ends).map(|(leg, end)| (leg.started.get().copied(), end)));
        let names = self.legs.iter().map(|leg| leg.backend.full_name().to_owned()).collect();
        self.context.recent.keep(race, names, is_noteworthy);
    }
}

/// The status of the refusal: whether the backends have failed, or this host.
fn status_of_loss(ends: &[LegEnd]) -> StatusCode {
    let is_overload = ends.iter().all(|leg| *leg.outcome == Outcome::NoSocket);
    if is_overload { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY }
}
