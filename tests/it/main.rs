//! What Red Tentacle promises, tried on real sockets of the loopback interface. In reading order:

/// Fake backends, clients, a proxy in this process and the program itself.
mod harness;

/// Who wins, and what the client gets.
mod race;
