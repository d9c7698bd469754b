//! One exchange: the race of a request, and the reply to its client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::classify::{AnswerClass, Wanted};
use super::context::Context;
use super::leg::{Leg, LegState};
use super::outgoing::outgoing;
use crate::access_log::Entry;
use crate::message::{Outcome, ReplyTo, Request, takes_problem};
use crate::race::{Abandoned, LingerPlace, Next, Race, StarterPlace, Verdict, Won};
use crate::runtime::cancel::CancelToken;
use crate::runtime::delay_queue::DelayPlace;
use crate::runtime::sync::Mutex;
use crate::upstream::{
    Answer, Backend, FilePermit, FileRead, LegStep, PathKey, Readiness, Representation, UpstreamRequest, Waiter,
};

/// The longest body of a loser that is read to its end, for the sake of its connection.
pub(super) const LOSER_BODY_BYTES_MAX: u64 = 64 * 1024;

/// The longest silence in it, where the leg ended before the race was decided: it counts nowhere any more, so that a backend
/// which sends heads alone would be left with any number of connections.
pub(super) const EARLY_LOSER_SILENCE_MAX: Duration = Duration::from_millis(250);

/// A race that is being run.
pub(super) struct Exchange {
    /// Shared with the proxy by every race that isn't over.
    pub(super) context: Arc<Context>,
    pub(super) legs: Vec<Leg>,
    /// The count of legs that haven't started.
    pub(super) unstarted: AtomicUsize,
    /// Where it waits for their time.
    pub(super) place: StarterPlace,
    /// While a thread starts legs since all before them have lost: those that it is to start then.
    pub(super) failing_over: Mutex<Option<Vec<usize>>>,
    pub(super) race: Arc<Race<Box<dyn ReplyTo>, Outcome>>,
    pub(super) path: PathKey,
    pub(super) request: UpstreamRequest,
    pub(super) wanted: Wanted,
    /// Of a request that isn't raced: whether bytes of it may have gone out.
    pub(super) one: Option<AtomicBool>,
    /// Until when the failure that is kept waits for better answers, if that has a bound.
    pub(super) waits_until: Mutex<Option<(Instant, DelayPlace)>>,
    /// When an answer was passed on that had waited for better ones, counted from the race's begin, if one was.
    pub(super) passed_on: OnceLock<Duration>,
    /// Whether its first tier has had a success.
    pub(super) has_first_success: AtomicBool,
    /// Whether all of its backends were benched when it began, so that none counts as benched.
    pub(super) are_all_benched: AtomicBool,
    /// Whether the client is told of a loss in JSON.
    pub(super) takes_problem: bool,
    pub(super) entry: Entry,
    /// Its place among the lines that wait for legs that take long.
    pub(super) late_line: OnceLock<DelayPlace>,
    /// What the winner's head says of its content, of a success.
    pub(super) winning: OnceLock<Representation>,
    /// Its losers' place among those that linger.
    pub(super) losers_place: OnceLock<LingerPlace>,
}

impl Exchange {
    /// Begins the race for a request among these backends. Doesn't block.
    pub(super) fn begin(
        context: &Arc<Context>,
        backends: Vec<Arc<Backend>>,
        request: Box<Request>,
        reply_to: Box<dyn ReplyTo>,
        entry: Entry,
    ) {
        let departure = reply_to.disconnect();
        let (wanted, takes_problem) = (Wanted::by(&request), takes_problem(&request.headers));
        let one = (!context.config.races(&request.method)).then(AtomicBool::default);
        let (received, path) = (request.received, PathKey::of(request.target.path()));
        let request = outgoing(request, &context.via, &context.config, &context.trusted_proxies, entry.id());
        let file = || request.holds_file().then(FilePermit::default);
        let legs: Vec<Leg> = backends.into_iter().map(|backend| Leg::new(backend, file())).collect();
        let exchange = Arc::new(Exchange {
            context: context.clone(),
            race: Arc::new(Race::new(legs.len(), reply_to, received)),
            path,
            legs,
            unstarted: AtomicUsize::new(0),
            place: StarterPlace::default(),
            failing_over: Mutex::default(),
            wanted,
            one,
            waits_until: Mutex::default(),
            passed_on: OnceLock::new(),
            has_first_success: AtomicBool::new(false),
            are_all_benched: AtomicBool::new(false),
            takes_problem,
            request,
            entry,
            late_line: OnceLock::new(),
            winning: OnceLock::new(),
            losers_place: OnceLock::new(),
        });
        // Before the client can leave: abandoning the race ends the legs that are kept back.
        let now = Instant::now();
        let kept = exchange.keep_back(now);
        departure.when_gone({
            let exchange = exchange.clone();
            Box::new(move || exchange.abandon())
        });
        let legs = (0..exchange.legs.len()).filter(|leg| !kept.contains(leg));
        if exchange.race.is_decided() {
            // The client had left before: nothing is sent, and no connection is lost to it.
            return legs.for_each(|leg| exchange.end(leg, Outcome::Cancelled, exchange.elapsed()));
        }
        exchange.start(legs, now);
        if !kept.is_empty() {
            exchange.wait_for_next();
        }
    }

    /// Starts legs, each as far as it goes without waiting. Doesn't block.
    pub(super) fn start(self: &Arc<Self>, legs: impl Iterator<Item = usize>, now: Instant) {
        for leg in legs {
            let _ = self.legs[leg].started.set(self.race.elapsed(now));
            self.trace(leg, &"starts");
            self.take_step(leg, |exchange, token| {
                exchange.legs[leg].backend.pool().start(&exchange.request, token, now)
            });
        }
    }

    /// The name of a leg's backend, as clients may know it.
    pub(super) fn name_of(&self, leg: usize) -> &str {
        self.legs[leg].backend.name()
    }

    /// Parks a leg in the poller until the next event.
    pub(super) fn park(self: &Arc<Self>, leg: usize, state: LegState, readiness: &Arc<dyn Readiness>) {
        self.park_until(leg, state, readiness, None);
    }

    /// Parks a leg in the poller until the next event, or until this has been read for it on a thread for the disk, where it then takes
    /// its next step.
    pub(super) fn park_until(
        self: &Arc<Self>,
        leg: usize,
        state: LegState,
        readiness: &Arc<dyn Readiness>,
        read: Option<FileRead>,
    ) {
        // The place before the state: once that is parked, a thread for the disk may take it, and the place be another leg's.
        let is_parked = readiness.park(self.clone(), leg);
        match self.legs[leg].parked.park(state, read.is_some()) {
            Ok(is_asked_for) => {
                if let Some(read) = read.filter(|_| is_asked_for) {
                    self.read_for(leg, read);
                }
            }
            Err(state) => {
                readiness.withdraw();
                return self.resume(leg, state);
            }
        }
        if !is_parked {
            self.clone().wake(leg);
        }
    }

    /// Has a leg take another step, once this has been read for it, if something has to be.
    pub(super) fn go_on(self: &Arc<Self>, leg: usize, state: LegState, read: Option<(FileRead, Arc<dyn Readiness>)>) {
        match read {
            Some((read, readiness)) => self.park_until(leg, state, &readiness, Some(read)),
            None => self.resume(leg, state),
        }
    }

    /// Has a thread for the disk read for a parked leg. However long the disk takes, the leg is woken by its answer, its deadline, and
    /// its hang-up.
    fn read_for(self: &Arc<Self>, leg: usize, read: FileRead) {
        // Kept by the parked leg: nothing of a race that is over waits for the disk.
        let exchange = Arc::downgrade(self);
        (self.context.threads.disk)(Box::new(move || {
            read.run();
            let Some(exchange) = exchange.upgrade() else { return };
            if let Some(state) = exchange.legs[leg].parked.end_read(LegState::sends) {
                read.withdraw_leg();
                exchange.resume(leg, state);
            }
        }));
    }

    /// Takes a leg's next step. Doesn't block.
    pub(super) fn resume(self: &Arc<Self>, leg: usize, state: LegState) {
        match state {
            LegState::Pending(pending) => {
                // With rules a late answer may be unfit: its fields and its body tell.
                let has_lost = self.race.is_decided() && self.context.config.lose_if.is_empty();
                self.take_step(leg, |exchange, token| pending.step(&exchange.request, token, has_lost));
            }
            LegState::Uploading(upload, body) => self.upload(leg, upload, body),
            LegState::Draining(draining, ends) => self.drain(leg, draining, ends),
            LegState::Judging(judging) => self.judge(leg, judging, false),
            // No event concerns it.
            LegState::Candidate(answer, after) => self.legs[leg].hold(answer, after),
        }
    }

    /// Takes a leg's step, and parks the leg in the poller if it has to wait for the next.
    fn take_step(self: &Arc<Self>, leg: usize, step: impl FnOnce(&Self, &CancelToken) -> Result<LegStep, Outcome>) {
        let token = self.race.token(leg);
        let stepped = catch_unwind(AssertUnwindSafe(|| step(self, token))).unwrap_or_else(|_| {
            let _ = token.disarm();
            Err(Outcome::Panic)
        });
        let ended = match stepped {
            Ok(LegStep::Answered(answer)) => return self.answered(leg, answer),
            Ok(LegStep::Yield(pending)) => {
                self.note_progress(&pending);
                let read = pending.file_read();
                return self.go_on(leg, LegState::Pending(pending), read);
            }
            Ok(LegStep::Blocked(mut pending)) => {
                self.note_progress(&pending);
                match pending.readiness(token).inspect(|_| self.trace(leg, &pending)) {
                    Ok(readiness) => return self.park(leg, LegState::Pending(pending), &readiness),
                    Err(outcome) => outcome,
                }
            }
            Err(outcome) => outcome,
        };
        self.end(leg, ended, self.elapsed());
    }

    /// Classifies an answer whose head is complete: its leg has won, or is held until the others have answered, or has lost.
    fn answered(self: &Arc<Self>, leg: usize, answer: Box<Answer>) {
        let now = Instant::now();
        let class = match &self.one {
            Some(_) => self.class_of_one(&answer),
            None => self.wanted.class_of(&answer, &self.context.config),
        };
        if self.one.is_none() && self.is_to_be_judged(class) {
            return self.begin_judging(leg, answer, class, now);
        }
        self.decide(leg, answer, class, now);
    }

    /// Has an answer of this class win, or be held, or lose.
    pub(super) fn decide(self: &Arc<Self>, leg: usize, answer: Box<Answer>, class: AnswerClass, now: Instant) {
        let after = self.race.elapsed(now);
        self.note_head(leg);
        if matches!(class, AnswerClass::Success | AnswerClass::Fallback) {
            self.note_success(leg, after, now);
        }
        self.note_finding_of(leg, &answer);
        let won = match class {
            AnswerClass::Success => self.race.claim(leg, Verdict::Won),
            AnswerClass::Final => self.race.claim(leg, Verdict::Final),
            AnswerClass::Fallback => return self.hold(leg, answer, after),
            AnswerClass::Failure => return self.fail(leg, answer, after),
        };
        if class == AnswerClass::Success {
            self.compare(leg, &answer.representation, won.is_some());
        }
        match won {
            Some(won) => self.win(leg, answer, won, after),
            None => self.lose_answer(leg, answer, after),
        }
    }

    /// Ends a leg that has lost with an answer, and frees its connection: once the rest of its request is out, if that isn't,
    /// and its body read. In a race that isn't decided no client waits for that; else the leg counts as pending until then.
    pub(super) fn lose_answer(self: &Arc<Self>, leg: usize, answer: Box<Answer>, after: Duration) {
        let outcome = self.wanted.outcome_of(&answer, &self.context.config, &self.context.via);
        self.lose_as(leg, answer, outcome, after);
    }

    pub(super) fn lose_as(self: &Arc<Self>, leg: usize, mut answer: Box<Answer>, outcome: Outcome, after: Duration) {
        self.end_look(leg);
        if let Some(upload) = answer.upload.take() {
            self.end(leg, outcome, after);
            self.let_linger(&upload.stop());
            return self.resume(leg, LegState::Uploading(upload, Some(answer.body)));
        }
        let (ends, silence_max) = if self.race.is_decided() {
            (Some((outcome, after)), Duration::MAX)
        } else {
            self.end(leg, outcome, after);
            (None, EARLY_LOSER_SILENCE_MAX)
        };
        // Its connection first: a reader of the log's line may count on that.
        drop(answer.upgraded.take());
        let body = answer.body;
        self.drain_with(leg, ends, || body.drain(LOSER_BODY_BYTES_MAX, silence_max));
    }

    /// Has a leg win: all others have lost, and it answers the client.
    pub(super) fn win(self: &Arc<Self>, leg: usize, answer: Box<Answer>, won: Won<Box<dyn ReplyTo>>, after: Duration) {
        // Before its client can ask again.
        let now = Instant::now();
        self.note_answer(leg, now);
        for loser in &won.losers {
            let Leg { backend, pending, file, .. } = &self.legs[*loser];
            backend.breaker().add(pending, self.path);
            if let Some(file) = file {
                file.take(backend.pool());
            }
        }
        self.begin_looks(&won.losers, now);
        if self.legs.len() > 1 {
            self.let_losers_linger(Some(leg), now);
            self.take_back_room(&won.losers, now);
        }
        self.end_unneeded(won.unneeded);
        self.lose_all(&won.candidates);
        if answer.upgraded.is_some() {
            return self.join(leg, answer, won.prize, after);
        }
        self.deliver(leg, answer, won.prize, after);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.race.elapsed(Instant::now())
    }

    pub(super) fn end(self: &Arc<Self>, leg: usize, outcome: Outcome, after: Duration) {
        self.debug_end(leg, &outcome, after);
        self.note_end(leg, &outcome);
        let Leg { backend, pending, look, file, .. } = &self.legs[leg];
        backend.breaker().remove(pending);
        if matches!(outcome, Outcome::Timeout | Outcome::ConnectTimeout) {
            self.note_timeout(leg);
        }
        backend.look().end(look);
        if let Some(file) = file {
            file.release();
        }
        if outcome != Outcome::Unneeded {
            self.end_others(&outcome);
        }
        self.defer_benched();
        self.act_on(self.race.end(leg, outcome, after));
    }

    /// Does what the race says after a leg's end, or its second-best answer.
    pub(super) fn act_on(self: &Arc<Self>, next: Next<Box<dyn ReplyTo>, Outcome>) {
        match next {
            Next::Running => {}
            Next::Start(legs) => {
                if self.race.next_start().is_none() {
                    self.context.starter.remove(&self.place);
                }
                self.fail_over(legs);
            }
            Next::Choose(legs) => self.choose(&legs),
            Next::PassOn(leg) => self.pass_on_kept(leg),
            Next::Over(verdict, results) => self.finish(verdict, &results),
            Next::LastLost(reply_to, results) => {
                // Some legs may still be reading their bodies, and no client waits for those.
                self.let_losers_linger(None, Instant::now());
                self.answer_loss(reply_to, results);
            }
        }
    }

    /// Ends the race without an answer: the client has left.
    fn abandon(self: &Arc<Self>) {
        let Abandoned { prize, unneeded, candidates } = self.race.abandon();
        if prize.is_some() {
            self.entry.abandoned(Instant::now());
        }
        // Not before: the last leg to end has the line written.
        self.race.hang_up_abandoned();
        self.end_unneeded(unneeded);
        self.cancel_all(&candidates);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(place) = self.losers_place.get() {
            self.context.reaper.withdraw(*place);
        }
    }
}

impl Waiter for Exchange {
    fn wake(self: Arc<Self>, leg: usize) {
        // A held answer is another's to take: taken for a moment, it would be missed.
        if let Some(state) = self.legs[leg].parked.take_or_notify(|state| !matches!(state, LegState::Candidate(..))) {
            self.resume(leg, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scenario::{LINGER, Scenario, answer, get, post, serve_one_that_has_left, wait_until};
    use crate::config::Config;
    use crate::race::Linger;
    use crate::upstream;
    use crate::upstream::scenario::{Backend, spool};

    #[test]
    fn the_first_success_wins_and_all_others_are_hung_up_on() {
        let mut race = Scenario::of(3, Linger::NONE);
        let client = race.race(get());
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(client.takes_reply(), (200, "b2".to_owned()));
        assert!(race.ends[0].receives_to_end().is_empty() && race.ends[2].receives_to_end().is_empty());
        race.wait_for_end();
        assert_eq!((race.legs(), race.take_idle(1)), ((3, 2), 1));
    }

    #[test]
    fn a_failure_decides_nothing_while_another_leg_may_succeed() {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        race.ends[0].sends(answer(503, "no"));
        wait_until("the failure's connection is free", || race.take_idle(0) == 1);
        assert!(client.waits());
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(client.takes_reply(), (200, "b2".to_owned()));
        race.wait_for_end();
        assert_eq!(race.legs(), (2, 0));
    }

    #[test]
    fn the_client_gets_every_reason_when_all_have_lost() {
        let mut race = Scenario::of(3, LINGER);
        let client = race.race(get());
        race.ends[2].ends();
        race.ends[1].sends("SSH-2.0-x\r\n");
        race.ends[0].sends(answer(503, "no"));
        let (status, body) = client.takes_reply();
        let reasons = ["b1 503: ", "b2 protocol: ", "b3 "].map(|name| body.find(name));
        assert!(status == 502 && reasons.is_sorted() && reasons[0].is_some(), "{body}");
        race.wait_for_end();
        assert_eq!(race.legs(), (3, 0));
    }

    #[test]
    fn a_client_that_leaves_takes_every_leg_along() {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        client.leaves();
        for end in &mut race.ends {
            assert_eq!(end.receives_to_end(), b"");
        }
        race.wait_for_end();
        assert!(race.legs() == (2, 2) && client.waits());
    }

    #[test]
    fn for_a_client_that_has_left_before_nothing_is_sent_and_no_connection_lost() {
        let mut race = Scenario::of(2, LINGER);
        let client = serve_one_that_has_left(&race.proxy, get());
        race.wait_for_end();
        assert!(race.ends.iter_mut().all(Backend::is_left_alone) && client.waits());
        assert_eq!((race.take_idle(0), race.take_idle(1)), (1, 1));
    }

    #[test]
    fn losers_linger_until_their_answers_free_their_connections() {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        assert!(race.ends[1].is_left_alone() && (race.proxy.races(), race.lingering()) == (1, 1));
        race.ends[1].sends(answer(200, "late"));
        race.wait_for_end();
        assert_eq!(race.lingering(), 0, "nothing of it is kept until its linger would be over");
        assert_eq!((race.legs(), race.take_idle(1)), ((2, 0), 1));
    }

    /// How many backends have received a request at once.
    fn started(race: &mut Scenario) -> Vec<usize> {
        (0..race.ends.len()).filter(|at| !race.ends[*at].is_left_alone()).collect()
    }

    #[test]
    fn a_leg_to_a_backend_that_leaves_requests_unanswered_runs_only_if_all_others_lose() {
        let mut race = Scenario::of(2, LINGER);
        let _pending = race.leave_unanswered(0, 128);
        let client = race.begin(get());
        assert_eq!(started(&mut race), [1]);
        race.ends[1].sends(answer(503, "no"));
        race.ends[0].receives_head();
        race.ends[0].sends(answer(200, "b1"));
        assert_eq!(client.takes_reply(), (200, "b1".to_owned()));
    }

    #[test]
    fn a_deferred_leg_is_skipped_when_another_wins() {
        let mut race = Scenario::of(2, LINGER);
        let _pending = race.leave_unanswered(0, 128);
        let client = race.begin(get());
        race.ends[1].receives_head();
        race.ends[1].sends(answer(200, "b2"));
        assert_eq!(client.takes_reply(), (200, "b2".to_owned()));
        race.wait_for_end();
        assert!(race.ends[0].is_left_alone() && race.legs() == (1, 0));
        assert_eq!(race.take_idle(0), 1);
    }

    #[test]
    fn never_all_legs_are_deferred() {
        let mut race = Scenario::of(2, LINGER);
        let _pending = [race.leave_unanswered(0, 128), race.leave_unanswered(1, 128)];
        let _client = race.begin(get());
        assert_eq!(started(&mut race).len(), 1);
    }

    #[test]
    fn a_request_that_is_not_safe_reaches_every_backend() {
        let mut race = Scenario::of(2, LINGER);
        let _pending = race.leave_unanswered(0, 128);
        let _client = race.race(post(spool(b"", 1)));
    }

    #[test]
    fn a_body_in_a_file_is_read_on_a_thread_for_the_disk_alone() {
        let mut race = Scenario::of(1, LINGER);
        let client = race.race(post(spool(b"abc", 0)));
        assert!(race.ends[0].is_left_alone());
        race.run_disk();
        assert_eq!(race.ends[0].receives(3), b"abc");
        race.ends[0].sends(answer(200, "b1"));
        assert_eq!(client.takes_reply(), (200, "b1".to_owned()));
        race.wait_for_end();
    }

    #[test]
    fn a_leg_ends_in_its_time_however_long_the_disk_takes() {
        let upstream = upstream::scenario::Scenario::with(|options| options.idle_timeout = Duration::from_millis(10));
        let mut race = Scenario::on(upstream, &[""], LINGER, Config::default());
        let (status, body) = race.race(post(spool(b"abc", 0))).takes_reply();
        assert!(status == 502 && body.contains("b1 timeout"), "{body}");
        race.wait_for_end();
        race.run_disk();
        assert_eq!(race.ends[0].receives_to_end(), b"", "nothing was left to do");
    }

    #[test]
    fn an_answer_is_heard_however_long_the_disk_takes() {
        for (early, expected) in [(answer(200, "early"), 200), (answer(413, "no"), 502), (String::new(), 502)] {
            let mut race = Scenario::of(1, LINGER);
            let client = race.race(post(spool(b"abc", 0)));
            race.ends[0].sends(&early);
            if early.is_empty() {
                race.ends[0].ends();
            }
            assert_eq!(client.takes_reply().0, expected, "{early}");
        }
    }

    #[test]
    fn a_leg_that_waits_for_the_disk_hears_that_its_client_leaves() {
        let mut race = Scenario::of(1, LINGER);
        let client = race.race(post(spool(b"abc", 0)));
        client.leaves();
        assert_eq!(race.ends[0].receives_to_end(), b"");
        wait_until("the leg has ended", || race.legs() == (1, 1));
        race.run_disk();
        race.wait_for_end();
        assert_eq!(race.legs(), (1, 1), "nothing was left to do");
    }

    #[test]
    fn a_loser_counts_as_pending_from_the_verdict_to_its_end() {
        let mut race = Scenario::of(2, LINGER);
        let client = race.race(get());
        let backends = race.list.snapshot();
        let pending = || [0, 1].map(|at| backends[at].breaker().count());
        assert_eq!(pending(), [0, 0]);
        race.ends[0].sends(answer(200, "b1"));
        client.takes_reply();
        assert_eq!(pending(), [0, 1]);
        race.ends[1].sends(answer(200, "late"));
        race.wait_for_end();
        assert_eq!(pending(), [0, 0]);
    }
}
