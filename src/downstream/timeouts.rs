//! How long clients are waited for, as plain data.

use std::time::Duration;

/// How long clients are waited for. No flag sets any of it; tests do, or they would take as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a head's first byte to its last, and from a connection's begin to its first byte.
    pub head: Duration,
    /// A body may start slowly, then it must come at a rate.
    pub body_start: Duration,
    /// For the whole body, from its head on, where that is [`BodyPolicy::Limited`](super::BodyPolicy::Limited).
    pub limited_body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// A client that was told to go is read for so long at most. Closing at once would make the kernel send a reset, which
    /// destroys the reply before the client has read it (RFC 9112 §9.6), and many clients read only when they have sent their
    /// request whole: how long that takes is a matter of time, not of bytes.
    pub closing: Duration,
    /// And may be silent for so long meanwhile.
    pub closing_silence: Duration,
    /// In a full front a client that is silent between two requests keeps its place for so long: else those that are busy would
    /// lose their connections to each other.
    pub fair_silence: Duration,
    /// A request or a stream is left alone there for so long, whatever it does.
    pub fair: Duration,
    /// And for longer if it moves so many bytes a second, since it began.
    pub fair_bytes_per_second: u64,
    /// A request of which nothing comes for so long has stopped.
    pub stall: Duration,
}

impl Timeouts {
    /// What clients have.
    pub const DEFAULT: Timeouts = Timeouts {
        // A head is one packet or two; ten seconds are for bad radio.
        head: Duration::from_secs(10),
        body_start: Duration::from_secs(10),
        // It is written by a program, and seldom longer than a packet.
        limited_body: Duration::from_secs(5),
        // As most servers have it.
        idle: Duration::from_secs(60),
        closing: Duration::from_secs(15),
        closing_silence: Duration::from_secs(5),
        fair_silence: Duration::from_secs(1),
        // A connection across the world has begun to be fast by then.
        fair: Duration::from_secs(3),
        // Even a phone at the edge of its cell is faster, and to hold 5,000 places at this pace costs 80 MB/s.
        fair_bytes_per_second: 16 * 1024,
        // Longer than a phone needs in a tunnel of a railway.
        stall: Duration::from_secs(10),
    };

    /// The same, all of them so many times shorter, and what is fast so many times faster.
    #[must_use]
    pub fn divided_by(self, divisor: u32) -> Timeouts {
        Timeouts {
            head: self.head / divisor,
            body_start: self.body_start / divisor,
            limited_body: self.limited_body / divisor,
            idle: self.idle / divisor,
            closing: self.closing / divisor,
            closing_silence: self.closing_silence / divisor,
            fair_silence: self.fair_silence / divisor,
            fair: self.fair / divisor,
            fair_bytes_per_second: self.fair_bytes_per_second * u64::from(divisor),
            stall: self.stall / divisor,
        }
    }
}
