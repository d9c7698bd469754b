//! Hedges by percentile under backends of every kind, simulated: what they cost in requests, and what they buy. No network, no clock.

use std::time::{Duration, Instant};

use crate::metrics::FirstSuccess;
use crate::race::{Race, Start, Timetable};
use crate::upstream::HedgeBudget;

const PER_SECOND: u32 = 1000;
/// As long as losers linger by default.
const LINGER: Duration = Duration::from_millis(200);
const AT_LATEST: Duration = Duration::from_millis(2500);

/// Random numbers of a fixed seed: splitmix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, neither included.
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How long an answer takes, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// With a mean of 20 ms.
    Exponential,
    /// 10 ms in the mean, and for 3 % of them 200 ms more and another 300 ms in the mean.
    Stalls,
    /// With a median of 20 ms and σ = 1.
    Lognormal,
}

impl Times {
    fn next(self, random: &mut Random) -> Duration {
        let millis = match self {
            Times::Exponential => random.exponential(20.0),
            Times::Stalls if random.unit() < 0.03 => 200.0 + random.exponential(300.0),
            Times::Stalls => random.exponential(10.0),
            Times::Lognormal => 20.0 * random.normal().exp(),
        };
        Duration::from_secs_f64(millis / 1000.0)
    }
}

/// A proxy before `a, b after=p95`.
struct Simulated {
    random: Random,
    first_success: FirstSuccess,
    budget: HedgeBudget,
    now: Instant,
}

/// What some seconds have cost, and how long clients waited.
#[derive(Default)]
struct Seconds {
    requests: u32,
    hedges: u32,
    waits: Vec<Duration>,
}

impl Seconds {
    fn share(&self) -> f64 {
        f64::from(self.hedges) / f64::from(self.requests)
    }

    fn p99(&mut self) -> Duration {
        self.waits.sort_unstable();
        self.waits[self.waits.len() * 99 / 100]
    }
}

impl Simulated {
    fn new() -> Simulated {
        let (first_success, budget) = (FirstSuccess::default(), HedgeBudget::default());
        Simulated { random: Random(7), first_success, budget, now: Instant::now() }
    }

    fn run(&mut self, seconds: u32, per_second: u32, times: Times, slowness: u32) -> Seconds {
        let mut told = Seconds::default();
        for _ in 0..seconds {
            for _ in 0..per_second {
                self.race(times, slowness, &mut told);
            }
            self.now += Duration::from_secs(1);
            self.first_success.end_second(self.now);
        }
        told
    }

    /// One race, by the rules of the real ones.
    fn race(&mut self, times: Times, slowness: u32, told: &mut Seconds) {
        let [first, second] = [(); 2].map(|()| times.next(&mut self.random) * slowness);
        self.budget.put_in(95);
        let delay = self.first_success.percentile(95).unwrap_or(AT_LATEST);
        let race: Race<(), ()> = Race::new(2, (), self.now);
        let mut timetable = Timetable::default();
        timetable.add(1, Start::Budgeted(delay, AT_LATEST));
        race.keep_back(timetable);
        let mut hedge = None;
        while let Some(at) = race.next_start().filter(|at| *at < self.now + first) {
            if !race.start_due(at, |_| self.budget.try_take()).is_empty() {
                hedge = Some(at - self.now + second);
            }
        }
        let wait = hedge.map_or(first, |hedge| hedge.min(first));
        told.requests += 1;
        told.hedges += u32::from(hedge.is_some());
        told.waits.push(wait);
        self.first_success.add(first.min(wait + LINGER));
    }
}

#[test]
fn hedges_cost_what_they_say_and_cut_the_tail() {
    for (times, gain) in [(Times::Exponential, 1.1), (Times::Stalls, 5.0), (Times::Lognormal, 1.3)] {
        let mut alone = Simulated::new();
        // None is known, so none is hedged.
        alone.first_success = FirstSuccess::default();
        let mut waits: Vec<Duration> = (0..60_000).map(|_| times.next(&mut alone.random)).collect();
        waits.sort_unstable();
        let without = waits[waits.len() * 99 / 100];
        let mut proxy = Simulated::new();
        proxy.run(30, PER_SECOND, times, 1);
        let mut steady = proxy.run(60, PER_SECOND, times, 1);
        let (share, with) = (steady.share(), steady.p99());
        assert!((0.03..0.053).contains(&share), "{times:?}: {share}");
        assert!(without.as_secs_f64() > gain * with.as_secs_f64(), "{times:?}: {without:?} to {with:?}");
    }
}

/// Without the budget, 18 % are hedged in the first ten seconds.
#[test]
fn a_service_that_slows_down_as_a_whole_gets_few_more_requests() {
    for times in [Times::Exponential, Times::Stalls, Times::Lognormal] {
        let mut proxy = Simulated::new();
        proxy.run(40, 500, times, 1);
        let shares: Vec<f64> = (0..3).map(|_| proxy.run(10, 500, times, 3).share()).collect();
        assert!(shares[0] <= 0.12 && shares[1] <= 0.11 && shares[2] <= 0.06, "{times:?}: {shares:?}");
    }
}

#[test]
fn a_proxy_that_knows_nothing_hedges_nothing_but_at_the_latest() {
    let mut proxy = Simulated::new();
    let first = proxy.run(1, 99, Times::Lognormal, 1);
    assert_eq!(first.hedges, 0);
    let slow = proxy.run(1, 99, Times::Exponential, 100);
    assert!((0.1..0.5).contains(&slow.share()), "{}", slow.share());
}
