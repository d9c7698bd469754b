//! What Red Tentacle promises, tried on real sockets of the loopback interface. In reading order:

// Nobody imports a test crate: `pub` says here what a module offers to the others.
#![allow(unreachable_pub)]

/// Fake backends, clients, a proxy in this process and the program itself.
mod harness;

/// Who wins, and what the client gets.
mod race;

/// Who is hung up on, when, and who isn't.
mod cancel;

/// Connections to backends: used again, given up, never mixed up.
mod lines;

/// A bug in one leg or one reply costs nobody else anything.
mod panics;
