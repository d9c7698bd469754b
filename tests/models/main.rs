//! The rules of the race and what its threads share, run in thousands of orders of their steps. `shuttle` chooses which
//! thread makes the next step wherever two could meet; a model says what must hold in every order.
//!
//! The rooms under test are the program's own files; below them stand doubles that shuttle can steer. An order that fails
//! is printed, and `shuttle::replay(model, "…")` runs it again.

// The house has no outside, and doesn't use all of the rooms that it borrows.
#![allow(unreachable_pub, dead_code, unused_imports, unused_macros)]
// The double of `select!` makes one of a loop that isn't.
#![allow(clippy::while_let_loop)]

#[path = "../../src/message/mod.rs"]
mod message;

/// The bytes of a connection.
#[path = "../../src/net/mod.rs"]
mod net;

/// Nobody reads it.
mod access_log {
    pub fn tls_failed(_: &crate::message::Peer, _: &str) {}

    pub fn refused(_: &crate::message::Peer, _: &crate::message::Refusal, _: Option<(&str, &str)>) {}
}

/// Counts nothing.
mod metrics {
    pub struct ReplyStats;

    #[allow(clippy::unused_self)] // The real one has counts.
    impl ReplyStats {
        pub fn count_refusal(&self, _: http::StatusCode) {}

        pub fn count_tls_failure(&self, _: bool) {}
    }
}

/// Waiting, hanging up and locks: the doubles.
mod runtime;

#[path = "../../src/race/mod.rs"]
mod race;

/// One connection to a backend, and its circuit breaker.
mod upstream;

/// The place of a leg between two steps.
#[path = "../../src/proxy/parked.rs"]
mod parked;

/// A reply and a tunnel on their way to the client: no byte lost or doubled, no client forgotten.
mod downstream;

/// One winner, every leg accounted for.
mod verdict;

/// Who is to be hung up on is, and nobody else.
mod losers;

/// A leg that waits in the poller goes on once.
mod waits;

/// And one that waits for the disk.
mod disk;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

type Model = (&'static str, fn());

const MODELS: &[Model] = &[
    ("a_race_has_one_winner_and_one_end", verdict::a_race_has_one_winner_and_one_end),
    (
        "losers_without_an_answer_are_counted_until_they_end",
        verdict::losers_without_an_answer_are_counted_until_they_end,
    ),
    ("one_leg_is_the_probe", verdict::one_leg_is_the_probe),
    ("one_leg_has_the_look_and_gives_it_back", verdict::one_leg_has_the_look_and_gives_it_back),
    (
        "one_leg_is_the_probe_of_a_bench_and_each_end_counts_once",
        verdict::one_leg_is_the_probe_of_a_bench_and_each_end_counts_once,
    ),
    ("a_late_cancel_misses_what_was_disarmed", losers::a_late_cancel_misses_what_was_disarmed),
    ("every_loser_is_hung_up_on", losers::every_loser_is_hung_up_on),
    ("nobody_lingers_in_a_closed_house", losers::nobody_lingers_in_a_closed_house),
    ("a_leg_in_the_poller_goes_on_once", waits::a_leg_in_the_poller_goes_on_once),
    (
        "a_request_in_many_goes_arrives_whole_or_its_leg_knows_why",
        waits::a_request_in_many_goes_arrives_whole_or_its_leg_knows_why,
    ),
    (
        "a_leg_whose_file_is_read_goes_on_once_and_leaves_its_place_to_the_next",
        disk::a_leg_whose_file_is_read_goes_on_once_and_leaves_its_place_to_the_next,
    ),
    (
        "what_happens_to_a_thing_in_its_place_is_seen",
        downstream::parkings::what_happens_to_a_thing_in_its_place_is_seen,
    ),
    ("a_reply_arrives_whole_or_is_seen_not_to_be", downstream::relays::a_reply_arrives_whole_or_is_seen_not_to_be),
    (
        "what_a_side_of_a_tunnel_sends_reaches_the_other",
        downstream::tunnels::what_a_side_of_a_tunnel_sends_reaches_the_other,
    ),
];

/// Orders tried of each model.
const ORDERS: usize = 3000;
/// And for how long at most, so that a busy host takes no more than 20 seconds for all.
const TIME_MAX: Duration = Duration::from_millis(1500);
/// So many in one go, of each of two ways to choose.
const BATCH: usize = 100;
/// So often the second way lets a thread that could go on wait for another: most bugs need one or two such moments.
const PREEMPTIONS: usize = 3;
/// A model that takes more is one in which threads wait for each other without end.
const STEPS_MAX: usize = 20_000;
/// Of a thread; shuttle's own default is too little for a panic's message in a debug build.
const STACK_BYTES: usize = 256 * 1024;

/// The little of the usual harness that is needed: names as filters, and `--list`.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_listing = arguments.iter().any(|argument| argument == "--list");
    let filters: Vec<_> = arguments.iter().take_while(|argument| !argument.starts_with('-')).collect();
    let is_chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut exit = ExitCode::SUCCESS;
    for (name, model) in MODELS.iter().filter(|(name, _)| is_chosen(name)) {
        if is_listing {
            println!("{name}: test");
        } else if !holds(name, *model) {
            exit = ExitCode::FAILURE;
        }
    }
    exit
}

fn holds(name: &str, model: fn()) -> bool {
    let (began, mut orders) = (Instant::now(), 0);
    let tried = catch_unwind(AssertUnwindSafe(|| {
        while orders < ORDERS && began.elapsed() < TIME_MAX {
            try_orders(RandomScheduler::new(BATCH), model);
            try_orders(PctScheduler::new(PREEMPTIONS, BATCH), model);
            orders += 2 * BATCH;
        }
    }));
    let verdict = if tried.is_ok() { "ok" } else { "FAILED" };
    println!("model {name} ... {verdict} ({orders} orders, {:.1} s)", began.elapsed().as_secs_f32());
    tried.is_ok()
}

fn try_orders(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.stack_size = STACK_BYTES;
    // It would warn that atomics are tried as if all were SeqCst.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}
