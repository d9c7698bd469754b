//! What is told of an exchange: its line of the log, soon after the reply, and its counts, once every leg has ended.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;

use super::context::Untold;
use super::exchange::Exchange;
use super::leg::Leg;
use crate::access_log::{LegEntry, RaceEntry};
use crate::message::proxy_status::How;
use crate::message::{Elapsed, Outcome};
use crate::metrics::{Gain, LegEnd, RaceEnd};
use crate::race::{LegResult, Verdict};
use crate::upstream::Representation;

/// The longest time from the reply to its line: losers of most requests have been hung up on by then, so that the line can say
/// so, and who looks at a log for a request of a moment ago finds it.
const LINE_WAIT: Duration = Duration::from_millis(200);

impl Exchange {
    /// Counts the race and has its line written, if that hasn't been done: every leg has ended.
    pub(super) fn finish(&self, verdict: Verdict, results: &[LegResult<Outcome>]) {
        if verdict == Verdict::Abandoned {
            // The last leg may end of itself between the client's leaving and its entry.
            self.entry.abandoned(Instant::now());
        }
        self.count(verdict, results);
        self.tell_of(verdict, results.iter().map(Some));
        if let Some(place) = self.late_line.get() {
            self.context.late_lines.withdraw(*place);
        }
        self.wait_no_more();
    }

    /// Counts a success that says something else of its content than the winner's. What isn't safe may have done one thing at each.
    pub(super) fn compare(&self, leg: usize, representation: &Representation, has_won: bool) {
        if !self.request.method().is_safe() {
            return;
        }
        if has_won {
            let _ = self.winning.set(*representation);
        } else if let Some(winning) = self.winning.get() {
            let stats = self.legs[leg].backend.stats();
            if representation.has_etag_of(winning) {
                stats.note_same_etag();
            }
            if representation.differs_from(winning, stats.has_had_same_etag()) {
                stats.count_differing();
            }
        }
    }

    /// Tells a step of a leg, where every step is told.
    pub(super) fn trace(&self, leg: usize, does: &dyn Display) {
        log::trace!("{} {} {does}", self.entry.id().as_str(), self.legs[leg].backend.full_name());
    }

    /// Tells the end of a leg, where ends are told.
    pub(super) fn debug_end(&self, leg: usize, outcome: &Outcome, after: Duration) {
        let (id, backend) = (self.entry.id().as_str(), &self.legs[leg].backend);
        log::debug!("{id} {} {} ended as {outcome} after {}", backend.full_name(), backend.address(), Elapsed(after));
    }

    /// Tells that a reply has begun which may take long: its line comes at its end.
    pub(super) fn debug_begin(&self, leg: usize, status: StatusCode) {
        log::debug!("{} {} has begun by {}", self.entry, status.as_u16(), self.legs[leg].backend.full_name());
    }

    /// Has the line written in a moment, since the client has its reply, unless all legs have ended by then, or are about to:
    /// losers that are hung up on earlier end with that.
    pub(super) fn tell_soon(self: &Arc<Self>, now: Instant) {
        if !self.entry.is_wanted() {
            return;
        }
        if self.linger() > LINE_WAIT || self.legs.iter().any(Leg::is_spared) {
            let _ = self.late_line.set(self.context.late_lines.add(Arc::<Exchange>::downgrade(self), now + LINE_WAIT));
        }
    }

    fn linger(&self) -> Duration {
        self.context.reaper.linger().after(self.request.method().is_safe())
    }

    /// How a leg came to answer.
    pub(super) fn how_of(&self, leg: usize, end: RaceEnd) -> How {
        match end {
            RaceEnd::Final => How::Final,
            RaceEnd::Best => How::Best,
            _ => self.legs[leg].how(),
        }
    }

    /// Tells of the race and of its legs, but for those that weren't needed.
    fn tell_of<'a>(&'a self, verdict: Verdict, results: impl Iterator<Item = Option<&'a LegResult<Outcome>>>) {
        if !self.entry.is_wanted() {
            return;
        }
        let end = end_of(verdict);
        let (mut legs, mut winner) = (Vec::with_capacity(self.legs.len()), None);
        for (number, (result, leg)) in results.zip(&self.legs).enumerate() {
            let outcome = result.map(|result| &result.outcome);
            if outcome == Some(&Outcome::Unneeded) {
                continue;
            }
            if verdict.winner() == Some(number) {
                winner = Some((legs.len(), self.how_of(number, end)));
            }
            legs.push(LegEntry {
                name: leg.backend.full_name(),
                backend: leg.backend.address(),
                outcome,
                started: leg.started.get().copied(),
                after: result.map(|result| result.after).unwrap_or_default(),
            });
        }
        self.entry.tell(Some(&RaceEntry { end, winner, legs: &legs }));
    }

    /// Whether the leg's answer has decided the race, and counts so: a 5xx that `--final` doesn't name, and that the client got since
    /// no other backend was asked, counts as the failure that it is.
    fn has_decided(&self, leg: usize, outcome: &Outcome, verdict: Verdict) -> bool {
        let is_chosen = |status: StatusCode| status.as_u16() < 500 || self.context.config.definitive.counts(status);
        match (verdict, outcome) {
            (Verdict::Won(winner), _) => winner == leg,
            (Verdict::Final(winner), Outcome::Status(status)) => winner == leg && is_chosen(*status),
            _ => false,
        }
    }

    /// Counts the race and its legs: every leg has ended.
    fn count(&self, verdict: Verdict, results: &[LegResult<Outcome>]) {
        let (now, winner) = (SystemTime::now(), verdict.winner());
        let ends: Vec<LegEnd> = (results.iter().zip(&self.legs).enumerate())
            .map(|(number, (result, leg))| LegEnd {
                outcome: &result.outcome,
                has_won: self.has_decided(number, &result.outcome, verdict),
                is_success: self.wanted.is_success(&result.outcome, &self.context.config),
                started: leg.started.get().copied().unwrap_or_default(),
                ended: result.after,
            })
            .collect();
        for (leg, end) in self.legs.iter().zip(&ends) {
            leg.backend.stats().count(end, now);
        }
        let reply = match (verdict, winner) {
            (Verdict::Lost, _) => ends.iter().map(|leg| leg.ended).max(),
            (_, Some(winner)) => Some(self.passed_on.get().copied().unwrap_or(ends[winner].ended)),
            (_, None) => None,
        };
        let is_rescue = if let (Verdict::Won(winner), Some(waited)) = (verdict, reply) {
            self.count_gain(winner, waited, &ends);
            let others = ends.iter().enumerate().filter(|(leg, end)| *leg != winner && end.was_asked());
            Gain::of(waited, others.map(|(_, end)| end)) == Gain::Rescue
        } else {
            false
        };
        self.context.stats.count(end_of(verdict), reply, &ends);
        if verdict != Verdict::Abandoned {
            self.note_first_cut(verdict, &ends);
        }
        self.keep(end_of(verdict), winner, is_rescue, reply, &ends);
    }

    /// Counts what the winner has bought. Other addresses of its name are no other backends.
    fn count_gain(&self, winner: usize, waited: Duration, ends: &[LegEnd]) {
        let stats_of = |leg: &Leg| Arc::as_ptr(leg.backend.stats());
        let own = stats_of(&self.legs[winner]);
        let others = self.legs.iter().zip(ends).filter(|(leg, _)| stats_of(leg) != own).map(|(_, end)| end);
        self.legs[winner].backend.stats().count_gain(Gain::of(waited, others), waited);
    }
}

impl Untold for Exchange {
    fn tell_now(&self) {
        if !self.entry.is_wanted() {
            return;
        }
        let (verdict, mut results) = self.race.progress();
        if self.linger() <= LINE_WAIT {
            // Their time is over just now; a leg with a long look alone has more.
            let is_over = |leg: &usize| results[*leg].is_none() && !self.legs[*leg].is_spared();
            let over: Vec<usize> = (0..results.len()).filter(is_over).collect();
            for leg in over {
                results[leg] = Some(LegResult { outcome: Outcome::Cancelled, after: self.elapsed() });
            }
        }
        if let Some(verdict) = verdict {
            self.tell_of(verdict, results.iter().map(Option::as_ref));
        }
    }
}

fn end_of(verdict: Verdict) -> RaceEnd {
    match verdict {
        Verdict::Won(_) => RaceEnd::Won,
        Verdict::Final(_) => RaceEnd::Final,
        Verdict::Best(_) => RaceEnd::Best,
        Verdict::Lost => RaceEnd::Lost,
        Verdict::Abandoned => RaceEnd::Abandoned,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{LINGER, Scenario, get, post};
    use crate::message::Request;

    /// How many answers of the second backend differ, after a race that the first has won.
    fn differing(race: &mut Scenario, request: Request, first: &str, second: &str) -> u64 {
        let client = race.race(request);
        race.ends[0].sends(first);
        client.takes_reply();
        race.ends[1].sends(second);
        race.wait_for_end();
        let list = race.list.snapshot();
        assert_eq!(list[0].stats().differing(), 0, "winners differ from nobody");
        list[1].stats().differing()
    }

    fn answer(status: &str, fields: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn late_successes_that_say_something_else_of_their_content_are_counted() {
        let mut race = Scenario::of(2, LINGER);
        let ok = |fields, body| answer("200 OK", fields, body);
        let rows = [
            ("the same", ok("", "abc"), ok("", "abc"), 0),
            ("etags of their own", ok("ETag: \"1\"\r\n", "abc"), ok("ETag: \"2\"\r\n", "abc"), 0),
            ("another length", ok("", "abc"), ok("", "abcd"), 1),
            ("a failure", ok("", "abc"), answer("503 No", "", "abcd"), 1),
            ("the same etag", ok("ETag: \"1\"\r\n", "abc"), ok("ETag: \"1\"\r\n", "abc"), 1),
            ("a stale etag", ok("ETag: \"3\"\r\n", "abc"), ok("ETag: \"1\"\r\n", "abc"), 2),
            ("a digest", ok("Repr-Digest: a=:b:\r\n", "abc"), ok("Repr-Digest: a=:c:\r\n", "abc"), 3),
        ];
        for (label, first, second, expected) in rows {
            assert_eq!(differing(&mut race, get(), &first, &second), expected, "{label}");
        }
    }

    #[test]
    fn what_is_not_safe_may_have_done_one_thing_at_each() {
        let mut race = Scenario::of(2, LINGER);
        let request = post(crate::upstream::scenario::spool(b"", 1024));
        assert_eq!(differing(&mut race, request, &answer("200 OK", "", "1"), &answer("200 OK", "", "22")), 0);
    }
}
