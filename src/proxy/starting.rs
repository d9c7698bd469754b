//! When each leg of a race starts: with it, by its `after`, or only if all others lose, where too many requests wait at its backend in
//! vain. What the rules say stands in `race`; here is what they are told of the backends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::benching::Benched;
use super::context::Context;
use super::exchange::Exchange;
use super::leg::Role;
use crate::message::{After, Outcome};
use crate::metrics::{LateStart, LegEnd};
use crate::race::{Start, Starts, Timetable, Verdict};
use crate::upstream::{Admission, Backend};

/// The shortest delay of a hedge by percentile: below it a thread that is late by a moment would cost a request.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// The legs whose backends leave too many requests unanswered.
#[derive(Default)]
struct Held {
    /// They start only if all others lose.
    out: Vec<usize>,
    /// They start all the same, and none waits for them that goes to a better backend.
    asked: Vec<usize>,
}

impl Exchange {
    /// Keeps back the legs that don't start with the race, and gives those.
    pub(super) fn keep_back(&self, now: Instant) -> Vec<usize> {
        if self.one.is_some() {
            let kept = self.all_but_one(now);
            self.unstarted.store(kept.len(), Ordering::Relaxed);
            self.race.keep_back(Timetable::one_by_one(&kept));
            return kept;
        }
        let benched = self.benched(now);
        let held = self.held(&benched, now);
        let has_none_out = held.out.is_empty() && benched.out.is_empty() && benched.probes.is_empty();
        if has_none_out && self.legs.iter().all(|leg| leg.backend.after().is_none()) {
            return held.out;
        }
        let timetable = self.timetable(&held, &benched);
        let kept: Vec<usize> = (0..self.legs.len()).filter(|leg| timetable.has(*leg)).collect();
        self.unstarted.store(kept.len(), Ordering::Relaxed);
        self.race.keep_back(timetable);
        kept
    }

    /// The legs to backends at which too many losers wait for an answer. Not all of them are kept out, and none whose method isn't
    /// safe: such a request should reach every backend.
    fn held(&self, benched: &Benched, now: Instant) -> Held {
        let breaker_of = |leg: usize| self.legs[leg].backend.breaker();
        let max = self.context.config.max_unanswered.get();
        // Without long looks nothing would tell that it answers again.
        let has_looks = self.context.reaper.has_looks(true);
        let is_out = |leg: &usize| {
            if has_looks && breaker_of(*leg).try_find_hung(max, now) {
                self.tell_hang(*leg, now);
            }
            // One that waits for its time mostly isn't needed: it takes no place and no probe from those that start.
            match self.legs[*leg].backend.after() {
                None => !breaker_of(*leg).try_admit(max, self.path, now),
                Some(_) => breaker_of(*leg).is_full(max),
            }
        };
        let others = || (0..self.legs.len()).filter(|leg| !benched.has(*leg));
        let mut held = Held::default();
        if self.request.method().is_safe() {
            held.out = others().filter(is_out).collect();
        }
        let is_ill = |leg: usize| breaker_of(leg).is_full(max) || breaker_of(leg).is_hung();
        held.asked = others().filter(|leg| !held.out.contains(leg) && is_ill(*leg)).collect();
        if held.out.len() + held.asked.len() == others().count() {
            // The backend that answered last is the likeliest to answer again. What isn't safe goes to them in their order.
            let likeliest = others().max_by_key(|leg| breaker_of(*leg).last_answer());
            let is_kept_out = !held.out.is_empty();
            held.out.retain(|leg| Some(*leg) != likeliest);
            held.asked.retain(|leg| is_kept_out && Some(*leg) != likeliest);
        }
        held
    }

    /// The timetable of the legs that don't start with the race. Those whose backends are held or benched count as not there, so that
    /// the earliest of the others start at once, whatever their `after`.
    fn timetable(&self, held: &Held, benched: &Benched) -> Timetable {
        let mut timetable = Timetable::default();
        for leg in &self.legs {
            if let Some(After::Percentile { percent, .. }) = leg.backend.after() {
                leg.backend.hedges().put_in(percent);
            }
        }
        for &leg in &benched.probes {
            self.legs[leg].set_role(Role::Probe);
            timetable.add_beside(leg);
        }
        for &leg in held.out.iter().chain(&benched.out) {
            self.legs[leg].set_role(Role::Deferred);
            timetable.add(leg, Start::LastResort);
        }
        let others = || (0..self.legs.len()).filter(|leg| !held.out.contains(leg) && !benched.has(*leg));
        let has_better = others().any(|leg| !benched.waiting.contains(&leg) && !held.asked.contains(&leg));
        let is_beside = |leg: usize| has_better && held.asked.contains(&leg);
        let is_well = |leg: usize| !benched.waiting.contains(&leg) && !is_beside(leg);
        let well = others().filter(|leg| is_well(*leg));
        let at_latest = self.context.first_tier_half(well.map(|leg| &*self.legs[leg].backend));
        let starts: Vec<(usize, Start)> =
            others().map(|leg| (leg, self.context.start_of(&self.legs[leg].backend, at_latest))).collect();
        let first = starts.iter().filter(|(leg, _)| is_well(*leg)).map(|(_, start)| age_of(*start)).min();
        let first = first.unwrap_or_default();
        for (leg, start) in starts {
            // One that waits is its bench's probe once its time has come, and not before.
            if age_of(start) > first || benched.waiting.contains(&leg) {
                self.legs[leg].set_role(Role::Later);
                timetable.add(leg, start);
            } else if is_beside(leg) {
                self.legs[leg].set_role(Role::Probe);
                timetable.add_beside(leg);
            }
        }
        timetable
    }

    /// Takes out the benched legs that would wait for their time, though no other leg starts before it.
    pub(super) fn take_first_tier(&self, benched: &mut Benched) -> Vec<usize> {
        if benched.waiting.is_empty() {
            return Vec::new();
        }
        let well = || (0..self.legs.len()).filter(|leg| !benched.has(*leg) && !benched.waiting.contains(leg));
        let at_latest = self.context.first_tier_half(well().map(|leg| &*self.legs[leg].backend));
        let age = |leg: usize| age_of(self.context.start_of(&self.legs[leg].backend, at_latest));
        let first = well().map(age).min().unwrap_or(Duration::MAX);
        let (taken, waiting) = benched.waiting.iter().partition(|leg| age(**leg) <= first);
        benched.waiting = waiting;
        taken
    }

    /// Before legs are chosen to start: has those whose backends sit out by now start only if all others lose.
    pub(super) fn defer_benched(&self) {
        let has_bench = self.context.config.bench.is_some() && !self.are_all_benched.load(Ordering::Relaxed);
        if !has_bench || self.unstarted.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = Instant::now();
        self.race.defer(|leg| {
            let is_meant = self.legs[leg].backend.bench().sits_out(now);
            if is_meant {
                self.legs[leg].set_role(Role::Deferred);
            }
            is_meant
        });
    }

    /// Has the next leg start by time, if one does.
    pub(super) fn wait_for_next(self: &Arc<Self>) {
        let Some(at) = self.race.next_start() else { return };
        let race: Arc<dyn Starts> = self.clone();
        let race: Weak<dyn Starts> = Arc::downgrade(&race);
        self.context.starter.add(race, &self.place, at);
        if self.race.is_decided() {
            // Just now, and it found no place to take back.
            self.context.starter.remove(&self.place);
        }
    }

    /// Starts legs since all before them have lost. Where they lose at once, the thread that has started them starts the next ones,
    /// too, and not from within: of a list whose backends all refuse, each would cost its share of the stack.
    pub(super) fn fail_over(self: &Arc<Self>, legs: Vec<usize>) {
        {
            let mut failing_over = self.failing_over.lock();
            if let Some(next) = failing_over.as_mut() {
                return next.extend(legs);
            }
            *failing_over = Some(legs);
        }
        while let Some(legs) = self.take_failover() {
            self.start_late(&legs, Role::Failover, LateStart::Failure);
        }
    }

    /// Takes the legs that a thread which starts such legs is to start next; if there are none, it is done.
    fn take_failover(&self) -> Option<Vec<usize>> {
        let mut failing_over = self.failing_over.lock();
        let next = failing_over.take().filter(|legs| !legs.is_empty());
        *failing_over = next.is_some().then(Vec::new);
        next
    }

    /// Starts legs that were kept back.
    pub(super) fn start_late(self: &Arc<Self>, legs: &[usize], role: Role, why: LateStart) {
        if legs.is_empty() {
            return;
        }
        self.unstarted.fetch_sub(legs.len(), Ordering::Relaxed);
        self.context.stats.count_late_starts(why, legs.len());
        let (now, mut is_any_beside) = (Instant::now(), false);
        for leg in legs {
            self.legs[*leg].set_role(role);
            is_any_beside |= self.context.config.bench.is_some() && self.try_run_beside(*leg, now);
        }
        self.start(legs.iter().copied(), now);
        if is_any_beside {
            self.act_on(self.race.next());
        }
    }

    /// Asks the bench for a leg whose time has come: what it finds is of now, and it may be the probe, for whose end no other leg of
    /// a race waits. Gives whether none does.
    fn try_run_beside(&self, leg: usize, now: Instant) -> bool {
        let is_beside = self.admit(leg, true, now) == Admission::Probe && self.one.is_none();
        if is_beside {
            self.race.run_beside(leg);
        }
        is_beside
    }

    /// Ends legs that haven't started, since the race is over for its client.
    pub(super) fn end_unneeded(self: &Arc<Self>, legs: Vec<usize>) {
        if legs.is_empty() {
            return;
        }
        self.context.starter.remove(&self.place);
        for leg in legs {
            let outcome = match self.legs[leg].role() {
                Role::Deferred => Outcome::Skipped,
                _ => Outcome::Unneeded,
            };
            self.end(leg, outcome, Duration::ZERO);
        }
    }

    /// Notes how long the first tier took to its first success, for the percentiles of other races: at once, since the body of this one
    /// may take minutes.
    pub(super) fn note_first_success(&self, leg: usize, after: Duration) {
        let is_first = self.legs[leg].role() == Role::First && self.has_percentile();
        if is_first && !self.has_first_success.swap(true, Ordering::Relaxed) {
            self.context.first_success.add(after);
        }
    }

    /// Notes when a first tier was cut that has had no success: once every leg has ended.
    pub(super) fn note_first_cut(&self, verdict: Verdict, ends: &[LegEnd]) {
        // A failure says nothing of how long a success takes, nor do those of its tier that it has cut by ending the race.
        let is_cut_by_failure =
            matches!(verdict, Verdict::Final(leg) | Verdict::Best(leg) if self.legs[leg].role() == Role::First);
        if is_cut_by_failure || !self.has_percentile() || self.has_first_success.load(Ordering::Relaxed) {
            return;
        }
        let first = self.legs.iter().zip(ends).filter(|(leg, _)| leg.role() == Role::First).map(|(_, end)| end);
        if let Some(time) = first.filter(|end| *end.outcome == Outcome::Cancelled).map(|end| end.ended).max() {
            self.context.first_success.add(time);
        }
    }

    /// Whether it is of use how long the first tier takes. One backend alone is no tier.
    fn has_percentile(&self) -> bool {
        let is_by_percentile = |after: Option<After>| matches!(after, Some(After::Percentile { .. }));
        self.one.is_none() && self.legs.iter().any(|leg| is_by_percentile(leg.backend.after()))
    }
}

impl Context {
    /// The delay of the hedges by percentile, of the first backend that has one.
    pub(super) fn hedge_delay(&self) -> Option<Duration> {
        let backends = self.backends.snapshot();
        let half = self.first_tier_half(backends.iter().map(|backend| &**backend));
        backends.iter().find_map(|backend| match self.start_of(backend, half) {
            Start::Budgeted(delay, _) => Some(delay),
            Start::At(_) | Start::LastResort => None,
        })
    }

    /// Half of the shortest timeout of the backends that are asked first: by then a hedge by percentile starts at the latest.
    fn first_tier_half<'a>(&self, backends: impl Iterator<Item = &'a Backend>) -> Duration {
        let age = |backend: &Backend| match backend.after() {
            None => Duration::ZERO,
            Some(After::Age(age)) => age,
            Some(After::Percentile { .. }) => Duration::MAX,
        };
        let first = backends.map(|backend| (age(backend), backend.pool().timeout())).min();
        let timeout = self.config.timeout;
        first.map_or(timeout, |(_, own)| own / 2).min(timeout).max(DELAY_MIN)
    }

    fn start_of(&self, backend: &Backend, half: Duration) -> Start {
        match backend.after() {
            None => Start::At(Duration::ZERO),
            Some(After::Age(age)) => Start::At(age),
            Some(After::Percentile { percent, at_latest }) => {
                let at_latest = at_latest.unwrap_or(half).max(DELAY_MIN);
                let delay = self.first_success.percentile(percent).unwrap_or(at_latest);
                Start::Budgeted(delay.clamp(DELAY_MIN, at_latest), at_latest)
            }
        }
    }
}

impl Starts for Exchange {
    fn start_due(self: Arc<Self>, now: Instant) {
        self.defer_benched();
        let mut refused = 0;
        let legs = self.race.start_due(now, |leg| {
            let has_budget = self.legs[leg].backend.hedges().try_take();
            refused += usize::from(!has_budget);
            has_budget
        });
        self.context.stats.count_late_starts(LateStart::Refused, refused);
        self.wait_for_next();
        self.start_late(&legs, Role::Hedge, LateStart::Time);
    }
}

/// The age at which a leg starts at the earliest.
fn age_of(start: Start) -> Duration {
    match start {
        Start::At(age) | Start::Budgeted(age, _) => age,
        Start::LastResort => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http::StatusCode;

    use super::super::scenario::{Client, LINGER, Scenario, answer, get, post, wait_until};
    use crate::config::Config;
    use crate::config::Statuses;
    use crate::message::{Delivery, ReplyBody};
    use crate::metrics::{Note, ShownEnd};
    use crate::race::Linger;
    use crate::upstream::PathKey;
    use crate::upstream::scenario::spool;

    /// Which backends have received a request.
    fn asked(race: &mut Scenario) -> Vec<usize> {
        (0..race.ends.len()).filter(|at| !race.ends[*at].is_left_alone()).collect()
    }

    /// What the client is told of how the winner won: `hedge of 2`.
    fn told(client: &Client) -> String {
        let sent = client.receives();
        assert_eq!(sent.reply.status, StatusCode::OK);
        let status = sent.reply.headers["proxy-status"].to_str().expect("ASCII").to_owned();
        assert!(matches!(sent.reply.body, ReplyBody::Whole(_)));
        (sent.delivered)(Delivery::Whole);
        let details = status.split('"').nth(1).expect("details").to_owned();
        details.split(' ').enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_leg_starts_when_its_race_is_as_old_as_its_after() {
        let mut race = Scenario::listed(&["", "after=30ms", "after=24h"], LINGER);
        let began = Instant::now();
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[1].receives_head();
        assert!(began.elapsed() >= Duration::from_millis(30));
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(told(&client), "hedge of 2");
        race.ends[0].sends(answer(200, "late"));
        race.wait_for_end();
        assert!(race.ends[2].is_left_alone() && race.legs() == (2, 0));
        assert_eq!(race.proxy.recent().last(1)[0].note, None);
    }

    #[test]
    fn a_hedge_that_does_not_win_is_noted() {
        let mut race = Scenario::listed(&["", "after=1ms"], LINGER);
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        assert_eq!(told(&client), "won of 2");
        race.ends[1].sends(answer(200, "late"));
        race.wait_for_end();
        assert_eq!(race.proxy.recent().last(1)[0].note, Some(Note::HedgedInVain));
    }

    #[test]
    fn the_next_tier_starts_when_all_before_it_have_lost() {
        let mut race = Scenario::listed(&["", "after=23h", "after=22h", "", "after=22h"], LINGER);
        let client = race.begin(get());
        assert_eq!(asked(&mut race), [0, 3]);
        race.ends[0].sends(answer(503, "no"));
        race.settle();
        assert!([1, 2, 4].iter().all(|at| race.ends[*at].is_left_alone()), "one may win");
        race.ends[3].sends(answer(503, "no"));
        for next in [2, 4] {
            race.ends[next].receives_head();
        }
        assert!(race.ends[1].is_left_alone(), "the others keep their times");
        race.ends[4].sends(answer(200, "b5"));
        assert_eq!(told(&client), "failover of 4");
        race.ends[2].sends(answer(200, "late"));
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(1)), ((4, 0), 1));
    }

    #[test]
    fn a_leg_that_is_not_needed_stands_among_the_races_alone() {
        for request in [get(), post(spool(b"", 1))] {
            let mut race = Scenario::listed(&["", "after=24h"], LINGER);
            let client = race.begin(request);
            race.ends[0].receives_head();
            race.ends[0].sends(answer(200, "b1"));
            assert_eq!(told(&client), "won of 1");
            race.wait_for_end();
            assert!(race.ends[1].is_left_alone());
            assert_eq!((race.legs(), race.take_idle(1)), ((1, 0), 1));
            let list = race.list.snapshot();
            assert_eq!(list[1].stats().ends().map(|(_, count)| count).sum::<u64>(), 0);
            let recent = race.proxy.recent().last(1).remove(0);
            let unneeded = recent.legs().nth(1).expect("a leg");
            assert_eq!((unneeded.end, unneeded.started), (ShownEnd::Word("unneeded"), None));
        }
    }

    #[test]
    fn an_empty_first_tier_lets_the_next_one_start_at_once() {
        // The backends are those that aren't paused.
        let mut race = Scenario::listed(&["paused", "after=23h", "after=24h"], LINGER);
        let _client = race.begin(get());
        assert_eq!(asked(&mut race), [0]);
        // One that leaves requests unanswered counts as not there.
        let mut race = Scenario::listed(&["", "after=23h", "after=24h"], LINGER);
        let _pending = race.leave_unanswered(0, 128);
        let client = race.begin(get());
        race.ends[1].receives_head();
        assert!(asked(&mut race).is_empty());
        race.ends[1].sends(answer(503, "no"));
        race.ends[2].receives_head();
        assert!(race.ends[0].is_left_alone(), "it is the last resort");
        race.ends[2].sends(answer(503, "no"));
        race.ends[0].receives_head();
        race.ends[0].sends(answer(200, "b1"));
        assert_eq!(told(&client), "failover of 3");
    }

    /// Was seen as: while the first backend hung, a request that was its probe waited until the second one's time, and what isn't safe
    /// always did.
    #[test]
    fn a_leg_to_a_backend_that_is_held_is_waited_for_by_none_that_goes_to_a_better_one() {
        // Those that are held, those that are asked at once, and the last of these, which fails.
        let rows: [(_, _, &[usize], &[usize], _); 3] = [
            ("a probe", get(), &[0], &[0, 1], 1),
            ("it isn't safe", post(spool(b"", 1)), &[0], &[0, 1], 1),
            ("it isn't safe, and there is no better one", post(spool(b"", 1)), &[0, 1, 2], &[0], 0),
        ];
        for (label, request, held, expected, last) in rows {
            let mut race = Scenario::listed(&["", "after=23h", "after=24h"], LINGER);
            let _pending: Vec<_> = held.iter().map(|at| race.leave_waiting(*at, 128, "/")).collect();
            let client = race.begin(request);
            assert_eq!(asked(&mut race), expected, "{label}");
            race.ends[last].receives_head();
            race.ends[last].sends(answer(503, "no"));
            race.ends[last + 1].receives_head();
            race.ends[last + 1].sends(answer(200, "yes"));
            assert_eq!(told(&client), format!("failover of {}", expected.len() + 1), "{label}");
        }
    }

    /// Its success still wins.
    #[test]
    fn a_held_backend_that_answers_first_has_won() {
        let mut race = Scenario::listed(&["", "after=24h"], LINGER);
        let _pending = race.leave_waiting(0, 128, "/");
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        assert_eq!(told(&client), "won of 2");
    }

    /// The first one's second is over, and the other one answered last.
    #[test]
    fn where_all_are_held_the_likeliest_to_answer_is_asked_beside_a_probe() {
        let mut race = Scenario::listed(&["", "after=24h"], LINGER);
        race.list.snapshot()[1].breaker().note_answer(PathKey::of("/"), Instant::now());
        let _pending = [race.leave_waiting(0, 128, "/"), race.leave_waiting(1, 128, "/")];
        let _client = race.begin(get());
        assert_eq!(asked(&mut race), [0, 1]);
    }

    /// Was seen as: a hung hedge wasn't asked once a second, since legs that never started had used up its probes.
    #[test]
    fn a_leg_that_waits_for_its_time_takes_no_place_at_a_full_backend() {
        let left = |races: usize| {
            let mut race = Scenario::listed(&["", "after=24h"], LINGER);
            let _pending = race.leave_waiting(1, 128, "/slow");
            for _ in 0..races {
                race.is_won_by_first(get());
            }
            race.take_places(1)
        };
        assert_eq!(left(3), left(0));
    }

    #[test]
    fn nothing_starts_for_a_client_that_has_left() {
        let mut race = Scenario::listed(&["", "after=24h", "after=1ms"], LINGER);
        let client = race.begin(get());
        race.ends[2].receives_head();
        client.leaves();
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone() && race.legs() == (2, 2));
    }

    #[test]
    fn for_a_race_that_is_decided_no_time_is_waited() {
        for leaves in [false, true] {
            let mut race = Scenario::listed(&["", "after=24h"], LINGER);
            let client = race.begin(get());
            race.ends[0].receives_head();
            wait_until("it waits", || race.starts() == 1);
            if leaves {
                client.leaves();
            } else {
                race.ends[0].sends(answer(200, "b1"));
                client.takes_reply();
            }
            wait_until("nothing waits", || race.starts() == 0);
            race.wait_for_end();
        }
    }

    #[test]
    fn when_the_last_tier_has_lost_the_client_gets_every_reason() {
        let mut race = Scenario::listed(&["", "after=23h", "after=24h"], LINGER);
        let client = race.begin(get());
        for at in 0..3 {
            race.ends[at].receives_head();
            race.ends[at].sends(answer(503, "no"));
        }
        let (status, body) = client.takes_reply();
        assert!(status == 502 && ["b1 503", "b2 503", "b3 503"].iter().all(|reason| body.contains(reason)), "{body}");
        race.wait_for_end();
        assert_eq!(race.legs(), (3, 0));
    }

    /// The counts of late starts: by time, by failure, and refused.
    fn late_starts(race: &Scenario) -> Vec<u64> {
        race.proxy.stats().late_starts().map(|(_, count)| count).collect()
    }

    #[test]
    fn a_hedge_without_a_budget_waits_for_its_end_or_for_a_failure() {
        let mut race = Scenario::listed(&["", "after=p95..24h"], LINGER);
        race.know(Duration::from_millis(2));
        while race.list.snapshot()[1].hedges().try_take() {}
        let client = race.begin(get());
        wait_until("it is refused", || late_starts(&race) == [0, 0, 1]);
        race.settle();
        assert!(race.ends[1].is_left_alone());
        race.ends[0].receives_head();
        race.ends[0].sends(answer(503, "no"));
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(told(&client), "failover of 2");
        assert_eq!(late_starts(&race), [0, 1, 1]);
    }

    #[test]
    fn a_hedge_starts_by_the_percentile_that_was_seen_or_at_the_latest() {
        let half = Duration::from_millis(2500);
        let rows = [
            ("after=p95", None, half),
            ("after=p95 timeout=1s", None, half),
            ("after=p95..700ms", None, Duration::from_millis(700)),
            ("after=p95", Some(20), Duration::from_micros(20_480)),
            ("after=p95..5ms", Some(20), Duration::from_millis(5)),
            ("after=p95", Some(0), Duration::from_millis(1)),
        ];
        for (options, seen, expected) in rows {
            let race = Scenario::listed(&["timeout=6s", "timeout=5s", options], LINGER);
            if let Some(seen) = seen {
                race.know(Duration::from_millis(seen));
            }
            assert_eq!(race.proxy.hedge_delay(), Some(expected), "{options} {seen:?}");
        }
        assert_eq!(Scenario::listed(&["", "after=5ms"], LINGER).proxy.hedge_delay(), None);
        let mut race = Scenario::listed(&["", "after=p95"], LINGER);
        race.know(Duration::from_millis(3));
        let client = race.begin(get());
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!((told(&client).as_str(), late_starts(&race)), ("hedge of 2", vec![1, 0, 0]));
    }

    /// One time a race: that of the first tier's first success, of its cut, or none.
    #[test]
    fn the_first_tiers_times_are_noted_and_no_others() {
        let rows = [
            ("it is cut, since the hedge has won", None, false, 1),
            ("it has failed", Some(503), false, 0),
            ("the client leaves", None, true, 0),
        ];
        for (label, status, leaves, expected) in rows {
            let mut race = Scenario::listed(&["", "after=p95..1ms"], Linger::NONE);
            let client = race.begin(get());
            race.ends[0].receives_head();
            race.ends[1].receives_head();
            if let Some(status) = status {
                race.ends[0].sends(answer(status, "b1"));
                race.settle();
            }
            if leaves {
                client.leaves();
            } else {
                race.ends[1].sends(answer(200, "b2"));
                client.takes_reply();
            }
            race.wait_for_end();
            assert_eq!(race.proxy.first_success().count(), expected, "{label}");
        }
        let mut race = Scenario::listed(&["", "after=p95..24h"], LINGER);
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        race.wait_for_end();
        assert_eq!(race.proxy.first_success().count(), 1, "it has won");
    }

    /// Was seen as: while downloads took minutes, the delay and the last success were those of minutes ago.
    #[test]
    fn a_success_is_noted_when_its_head_has_come_and_once_a_race() {
        let mut race = Scenario::listed(&["", "", "after=p95..24h"], LINGER);
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[0].sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        let sent = client.receives();
        assert_eq!(race.proxy.first_success().count(), 1);
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "late"));
        let backends = race.list.snapshot();
        wait_until("the loser has answered", || backends[1].stats().last_success().is_some());
        assert!(backends[0].stats().last_success().is_some() && race.proxy.races() == 1);
        drop(sent);
        race.wait_for_end();
        assert_eq!(race.proxy.first_success().count(), 1);
    }

    /// Final answers: one of the first tier, that cuts the other one, and one of the hedge.
    #[test]
    fn what_a_failure_of_the_first_tier_has_cut_is_not_noted() {
        for (at, expected) in [(0, 0), (2, 1)] {
            let config = Config { definitive: Statuses::parse("404").expect("a status"), ..Config::default() };
            let mut race = Scenario::made(&["", "", "after=p95..1ms"], Linger::NONE, config);
            let client = race.race(get());
            race.ends[at].sends(answer(404, "none"));
            assert_eq!(client.takes_reply().0, 404);
            race.wait_for_end();
            assert_eq!((race.legs(), race.proxy.first_success().count()), ((3, 2), expected));
        }
    }

    #[test]
    fn a_final_answer_starts_no_tier() {
        let config = Config { definitive: Statuses::parse("404").expect("a status"), ..Config::default() };
        let mut race = Scenario::made(&["", "after=24h"], LINGER, config);
        let client = race.begin(get());
        race.ends[0].receives_head();
        race.ends[0].sends(answer(404, "none"));
        assert_eq!(client.takes_reply(), (404, "none".to_owned()));
        race.wait_for_end();
        assert!(race.ends[1].is_left_alone() && race.legs() == (1, 0) && race.starts() == 0);
    }
}
