//! What Red Tentacle promises, tried on real sockets of the loopback interface. In reading order:

// The test crate has no outside: whether an item is seen beyond its module doesn't matter here.
#![allow(unreachable_pub)]

/// Fake backends, clients, a proxy in this process and the program itself.
mod harness;

/// Who wins, and what the client gets.
mod race;

/// Failures that go to the client.
mod failures;

/// Answers that would win by their heads, and don't: by rules, or for want of a byte.
mod unfit;

/// Who is hung up on, when, and who isn't.
mod cancel;

/// Requests that no connection takes at once.
mod uploads;

/// Connections to backends: used again, given up, never mixed up.
mod connections;

/// A bug in one leg or one reply costs no other anything, and a disk that hangs no leg more than its time.
mod panics;

/// Names, addresses and ports on the way to a backend.
mod reach;

/// Names each of whose addresses is a backend.
mod each;

/// Backends that speak TLS: whom to trust, and what a broken one can't do.
mod tls;

/// What only a file, a flag or the environment may say of a backend: its certificates, and fields for it alone.
mod local;

/// Idle connections: how many are kept, and for how long.
mod idle;

/// What clients are told of backends, and what they aren't.
mod explained;

/// Every word for how a leg ended, for the client and in the log.
mod outcomes;

/// The Easy Racer course: every kind of race, and its losers hung up on.
mod racers;

/// The costs of a race: connections opened, used again and hung up on.
mod counts;

/// A backend that hangs is told from one that is only slow.
mod looks;

/// Legs that start later than their race: tiers, hedges, and timeouts of one backend's own.
mod tiers;

/// Backends that fail often in a row sit out.
mod bench;

/// What an ill backend costs.
mod ill;

/// Backends that misbehave in every way, but one.
mod chaos;

/// What `/metrics` counts, against what clients and backends count.
mod metrics;

/// What is told of a race to those who ask later.
mod races;

/// The list replaced: who may, on which port, and what clients notice.
mod updates;

/// The list as an operator keeps it: read, changed and kept in a file.
mod list;

/// What clients may send, and what they get for it.
mod clients;

/// Clients that come by HTTPS: certificates, what is agreed on, and hostile bytes.
mod https;

/// Clients and operators at Unix sockets.
mod unix;

/// curl, Python and ab.
mod ordinary;

/// pip, npm, apt and git before mirrors that lack what they ask for.
mod mirrors;

/// Thousands that wait.
mod slow;

/// Streams, tunnels and downloads by the hundred, and who else is served meanwhile.
mod many;

/// A full house.
mod crowded;

/// Clients that take their replies slowly, or not at all.
mod readers;

/// After a 101.
mod upgrades;

/// What comes last in a tunnel, in whichever way it ends.
mod last_bytes;

/// Answers to a wish to switch that aren't the switch.
mod second_best;

/// Any bytes, from clients and from backends, rule by rule.
mod wire;

/// The line of each exchange, and a log that stops nothing.
mod log;

/// One race from the shell.
mod trial;

/// How it ends.
mod drain;

/// Alive, and ready: for those who only look.
mod probes;

/// The status page.
mod page;

/// Under systemd: what it is told, and what it hands over.
mod supervised;

/// The program as its own client.
mod admin_commands;

/// Every flag, by its name and by its variable.
mod flags;

/// The race behind tiny_http.
mod example;

/// What packages carry is what the flags say.
mod docs;

/// The rules of this repository that a machine can keep.
mod tidy;

/// Circles of imports, and rooms that know of each other though they may not.
mod imports;
