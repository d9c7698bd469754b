//! One exchange: the race, and the reply.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::candidates::Candidate;
use super::worth::Worth;
use super::{Proxy, outgoing};
use crate::backends::Backend;
use crate::journal::{LegRecord, Record};
use crate::message::headers;
use crate::message::{Outcome, ReplyTo, Request};
use crate::race::{Abandoned, CancelToken, End, LegResult, Mark, PathKey, Race, Verdict, Won};
use crate::upstream::{Answer, FilePlace, Outgoing, Step, Waits, Woken};

/// A loser's body is read to its end, for the sake of its line, if it is no longer than this.
const LOSER_BODY_BYTES_MAX: u64 = 64 * 1024;

/// A race that is being run.
pub(super) struct Exchange {
    pub(super) proxy: Arc<Proxy>,
    _alive: Arc<()>,
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) race: Arc<Race<Box<dyn ReplyTo>, Outcome>>,
    marks: Vec<Mark>,
    path: PathKey,
    pub(super) request: Outgoing,
    /// For the file of its body, if that is in one: one for each leg.
    file_places: Vec<FilePlace>,
    pub(super) is_conditional: bool,
    /// The protocols that the client would switch to.
    pub(super) upgrade: Option<HeaderValue>,
    /// Empty but for a request that asks to switch.
    pub(super) candidates: Mutex<Vec<Candidate>>,
    pub(super) record: Record,
}

impl Exchange {
    /// Begins the race for a request. Doesn't block.
    pub(super) fn begin(proxy: &Arc<Proxy>, request: Request, reply_to: Box<dyn ReplyTo>, record: Record) {
        let backends = proxy.backends.snapshot();
        let departure = reply_to.departure();
        let is_conditional = headers::is_conditional(&request);
        let upgrade = headers::upgrade_of(&request);
        let (received, path) = (request.received, PathKey::of(request.target.path()));
        let request = outgoing(request, &proxy.via, &proxy.rules);
        let files = if request.holds_file() { backends.len() } else { 0 };
        let exchange = Arc::new(Exchange {
            proxy: proxy.clone(),
            _alive: proxy.alive.clone(),
            race: Arc::new(Race::new(backends.len(), reply_to, received)),
            marks: backends.iter().map(|_| Mark::default()).collect(),
            path,
            backends,
            is_conditional,
            upgrade,
            candidates: Mutex::default(),
            request,
            file_places: (0..files).map(|_| FilePlace::default()).collect(),
            record,
        });
        // Before the client can leave: whoever decides a race ends the legs that are held back.
        let held_back = exchange.hold_back(Instant::now());
        departure.when_gone({
            let exchange = exchange.clone();
            Box::new(move || exchange.abandon())
        });
        let legs = (0..exchange.backends.len()).filter(|leg| !held_back.contains(leg));
        if exchange.race.is_decided() {
            // The client had left before: nothing is sent, and no connection is lost to it.
            return legs.for_each(|leg| exchange.end(leg, Outcome::Cancelled, exchange.elapsed()));
        }
        exchange.start(legs);
    }

    /// Holds back the legs to backends at which too many losers wait in vain, but never all of them, and never one whose
    /// method isn't safe: such a request should reach every backend.
    fn hold_back(&self, now: Instant) -> Vec<usize> {
        if !self.request.method().is_safe() {
            return Vec::new();
        }
        let is_full = |leg: &usize| !self.backends[*leg].silent().admits(self.proxy.rules.silent_max, self.path, now);
        let mut held_back: Vec<usize> = (0..self.backends.len()).filter(is_full).collect();
        if held_back.len() == self.backends.len() {
            // The one that answered last is the likeliest to answer again.
            let likeliest = (0..self.backends.len()).max_by_key(|leg| self.backends[*leg].silent().heard());
            held_back.retain(|leg| Some(*leg) != likeliest);
        }
        self.race.hold_back(held_back.clone());
        held_back
    }

    /// Starts legs, each as far as it goes without waiting. Doesn't block.
    fn start(self: &Arc<Self>, legs: impl Iterator<Item = usize>) {
        for leg in legs {
            self.step(leg, |exchange, token| exchange.backends[leg].lines().start(&exchange.request, token));
        }
    }

    /// A leg's wait is over: it goes on, on this thread if that needn't read a file.
    fn go_on(self: &Arc<Self>, leg: usize, woken: Woken) {
        let exchange = self.clone();
        self.run(woken.reads_file(&self.request), move || {
            let has_lost = exchange.race.is_decided();
            exchange.step(leg, |exchange, token| woken.go_on(&exchange.request, token, has_lost));
        });
    }

    /// Does a piece of work that doesn't wait, but for the disk: then on a thread for that.
    pub(super) fn run(&self, reads_file: bool, work: impl FnOnce() + Send + 'static) {
        if reads_file { (self.proxy.disk)(Box::new(work)) } else { work() }
    }

    /// A leg takes a step, and waits in the poller for the next if it has to.
    fn step(self: &Arc<Self>, leg: usize, step: impl FnOnce(&Self, &CancelToken) -> Result<Step, Outcome>) {
        let token = self.race.token(leg);
        let stepped = catch_unwind(AssertUnwindSafe(|| step(self, token))).unwrap_or(Err(Outcome::Panic));
        let ended = match stepped {
            Ok(Step::Answered(answer)) => return self.answered(leg, answer),
            Ok(Step::Waits(waits)) => self.wait(leg, waits, token),
            Err(outcome) => Err(outcome),
        };
        if let Err(outcome) = ended {
            self.end(leg, outcome, self.elapsed());
        }
    }

    fn wait(self: &Arc<Self>, leg: usize, waits: Waits, token: &CancelToken) -> Result<(), Outcome> {
        let exchange = self.clone();
        waits.begin(token, move |woken| exchange.go_on(leg, woken))
    }

    /// A leg has a complete head: it has won, or waits for what the others say, or has lost.
    fn answered(self: &Arc<Self>, leg: usize, answer: Answer) {
        let after = self.elapsed();
        let won = match self.worth(&answer) {
            Worth::Success => self.race.claim(leg),
            Worth::SecondBest => return self.hold(leg, answer, after),
            Worth::Nothing => None,
        };
        match won {
            Some(won) => self.win(leg, answer, won, after),
            None => self.lose_answer(leg, answer, after),
        }
    }

    /// A leg has lost whose answer is here, and frees its line: once the rest of its request is out, if that isn't, and its body
    /// read. In a race that isn't decided nobody waits for that; else it counts as one that waits in vain until then.
    pub(super) fn lose_answer(self: &Arc<Self>, leg: usize, mut answer: Answer, after: Duration) {
        let (outcome, upload) = (self.outcome_of(&answer), answer.upload.take());
        let is_decided = self.race.is_decided();
        let ends_late = (is_decided && upload.is_none()).then(|| outcome.clone());
        if ends_late.is_none() {
            self.end(leg, outcome, after);
        }
        let drain = move |exchange: &Arc<Self>| {
            exchange.drain(leg, answer.body.drain(LOSER_BODY_BYTES_MAX), move |exchange, is_whole| {
                let Some(outcome) = ends_late else { return };
                exchange.end(leg, if is_whole { outcome } else { Outcome::Cancelled }, after);
            });
        };
        let Some(upload) = upload else { return drain(self) };
        self.let_linger(&upload.stop());
        self.upload(upload, drain);
    }

    /// A leg has won: all others have lost, and it answers the client.
    pub(super) fn win(self: &Arc<Self>, leg: usize, answer: Answer, won: Won<Box<dyn ReplyTo>>, after: Duration) {
        // Before its client can ask again.
        self.hear(leg);
        for loser in won.losers {
            self.backends[loser].silent().add(&self.marks[loser], self.path);
            if let Some(place) = self.file_places.get(loser) {
                place.take(self.backends[loser].lines());
            }
        }
        self.proxy.reaper.take(&self.race, Some(leg), self.request.method().is_safe(), Instant::now());
        self.skip(won.held_back);
        self.lose_all(&won.candidates);
        if answer.switched.is_some() {
            return self.join(leg, answer, won.prize, after);
        }
        self.deliver(leg, answer, won.prize, after);
    }

    /// Its backend answers.
    pub(super) fn hear(&self, leg: usize) {
        self.backends[leg].silent().hear(self.path, Instant::now());
    }

    /// These legs were held back and aren't needed.
    fn skip(self: &Arc<Self>, legs: Vec<usize>) {
        for leg in legs {
            self.end(leg, Outcome::Skipped, Duration::ZERO);
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.race.elapsed(Instant::now())
    }

    pub(super) fn end(self: &Arc<Self>, leg: usize, outcome: Outcome, after: Duration) {
        self.backends[leg].silent().remove(&self.marks[leg]);
        if let Some(place) = self.file_places.get(leg) {
            place.give_back();
        }
        self.go_on_after(self.race.end(leg, outcome, after));
    }

    /// Does what the race says after a leg's end, or its second-best answer.
    pub(super) fn go_on_after(self: &Arc<Self>, end: End<Box<dyn ReplyTo>, Outcome>) {
        match end {
            End::Running => {}
            End::CallUp(legs) => self.start(legs.into_iter()),
            End::Choose(legs) => self.choose(&legs),
            End::Over(verdict, results) => self.finish(verdict, &results),
            End::LastLost(reply_to, results) => {
                // Some may still be reading their bodies, and nobody waits for those.
                self.proxy.reaper.take(&self.race, None, true, Instant::now());
                self.answer_loss(reply_to, results);
            }
        }
    }

    /// Every leg has ended: the line of the log can be written.
    pub(super) fn finish(&self, verdict: Verdict, results: &[LegResult<Outcome>]) {
        let winner = if let Verdict::Won(leg) = verdict { Some(leg) } else { None };
        if verdict == Verdict::Abandoned {
            // The last leg may end of itself between the client's leaving and its record.
            self.record.abandoned(Instant::now());
        }
        let legs: Vec<_> = (results.iter().zip(&self.backends))
            .map(|(result, backend)| LegRecord {
                backend: backend.address(),
                outcome: &result.outcome,
                after: result.after,
            })
            .collect();
        self.proxy.tally.add(&legs);
        self.record.finish(winner, &legs);
    }

    /// The client has left: nobody needs an answer.
    fn abandon(self: &Arc<Self>) {
        let Abandoned { prize, held_back, candidates } = self.race.abandon();
        if prize.is_some() {
            self.record.abandoned(Instant::now());
        }
        // Not before: the last leg to end writes the record.
        self.race.hang_up_abandoned();
        self.skip(held_back);
        self.cancel_all(&candidates);
    }
}
