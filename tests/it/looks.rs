//! The long look: a backend that hangs is told from one that is only slower than the winner.

use std::time::Duration;

use crate::harness::{Fake, Gate, Proxy, Raw, eventually, get};

fn ends(proxy: &Proxy, backend: &str, outcome: &str) -> u64 {
    let name = format!("red_tentacle_legs_total{{backend=\"{backend}\",outcome=\"{outcome}\"}} ");
    let text = get(proxy.admin, "/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

/// Was seen as: a backend that hung and one that was 300 ms slower than the winner both had nothing but `cancelled`, for ever.
#[test]
fn a_backend_that_hangs_ends_in_a_timeout_and_a_slow_one_in_a_late_success() {
    let (quick, hanging, gate) = (Fake::with(200, "quick"), Raw::hanging(), Gate::new());
    let slow = Fake::behind(&gate, 200, "slow");
    let proxy = Proxy::with(&[quick.url.clone(), hanging.url.clone(), slow.url.clone()], |config| {
        config.linger = Duration::from_millis(1);
        config.timeout = Duration::from_secs(3);
    });
    assert_eq!(proxy.get("/look").text(), "quick");
    slow.next();
    // The look is taken: losers of this race are hung up on.
    assert_eq!(proxy.get("/no-look").text(), "quick");
    let (b2, b3) = (&hanging.url, &slow.url);
    eventually("the race is over", || ends(&proxy, b2, "cancelled") == 1 && ends(&proxy, b3, "cancelled") == 1);
    gate.open();
    eventually("the race with the look is over", || ends(&proxy, b2, "timeout") == 1 && ends(&proxy, b3, "late") == 1);
}

#[test]
fn without_linger_there_is_no_long_look() {
    let (quick, hanging) = (Fake::with(200, "quick"), Raw::hanging());
    let proxy = Proxy::with(&[quick.url.clone(), hanging.url.clone()], |config| {
        config.linger = Duration::ZERO;
        config.timeout = Duration::from_secs(3600);
        config.idle_timeout = Duration::from_secs(3600);
    });
    assert_eq!(proxy.get("/").text(), "quick");
    hanging.expect_hang_up();
}
