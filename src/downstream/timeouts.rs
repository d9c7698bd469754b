//! The longest waits for clients, as plain data.

use std::time::Duration;

/// The longest waits for clients. No flag sets any of them; tests do, or they would take as long.
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
    /// The longest time that a client is read after its last reply. Closing at once would make the kernel send a reset, which
    /// destroys the reply before the client has read it (RFC 9112 §9.6), and many clients read only when they have sent their
    /// request whole: how long that takes is a matter of time, not of bytes.
    pub closing: Duration,
    /// The longest silence meanwhile.
    pub closing_silence: Duration,
    /// The time for which a client that is silent between two requests isn't evicted: else busy clients would lose their
    /// connections to each other.
    pub fair_silence: Duration,
    /// The time for which a client of TLS isn't evicted that hasn't said a whole hello.
    pub fair_hello: Duration,
    /// The time for which a request or a stream isn't evicted, whatever its rate.
    pub fair: Duration,
    /// The rate since it began from which on it isn't evicted after that.
    pub fair_bytes_per_second: u64,
    /// The time after which a request that nothing comes of has stopped.
    pub stall: Duration,
}

impl Timeouts {
    /// The waits of the program.
    pub const DEFAULT: Timeouts = Timeouts {
        // A head is one packet or two; ten seconds are for bad radio.
        head: Duration::from_secs(10),
        body_start: Duration::from_secs(10),
        // It is written by a program, and seldom longer than a packet.
        limited_body: Duration::from_secs(5),
        // Longer than the load balancers before it keep a connection, or a request of theirs could meet its end: Google's do for 600 s.
        // Where places are wanted, clients that idle go first.
        idle: Duration::from_secs(620),
        closing: Duration::from_secs(15),
        closing_silence: Duration::from_secs(5),
        fair_silence: Duration::from_secs(1),
        // It follows the connection at once, also across the world. So ten times as many clients as there are places get in each
        // second, even if each of them says half a hello.
        fair_hello: Duration::from_millis(100),
        // A connection across the world has begun to be fast by then.
        fair: Duration::from_secs(3),
        // Even a phone at the edge of its cell is faster, and to hold 5,000 places at this pace costs 80 MB/s.
        fair_bytes_per_second: 16 * 1024,
        // Longer than a phone needs in a tunnel of a railway.
        stall: Duration::from_secs(10),
    };
}
