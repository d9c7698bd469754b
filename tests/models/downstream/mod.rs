//! The frontend as the program has it, but for what accepts clients and what writes to the disk: these have doubles here.

#[path = "../../../src/downstream/client/mod.rs"]
mod client;

#[path = "../../../src/downstream/connection_table.rs"]
mod connection_table;

#[path = "../../../src/downstream/eviction.rs"]
mod eviction;

#[path = "../../../src/downstream/flow.rs"]
mod flow;

#[path = "../../../src/downstream/h1/mod.rs"]
mod h1;

#[path = "../../../src/downstream/limits.rs"]
mod limits;

#[path = "../../../src/downstream/parking.rs"]
mod parking;

#[path = "../../../src/downstream/rate_meter.rs"]
mod rate_meter;

#[path = "../../../src/downstream/relay.rs"]
mod relay;

#[path = "../../../src/downstream/reply_writer.rs"]
mod reply_writer;

#[path = "../../../src/downstream/responder.rs"]
mod responder;

#[path = "../../../src/downstream/reply_to.rs"]
mod reply_to;

#[path = "../../../src/downstream/timeouts.rs"]
mod timeouts;

#[path = "../../../src/downstream/tunnel.rs"]
mod tunnel;

#[path = "../../../src/downstream/tunnel_ends.rs"]
mod tunnel_ends;

/// The doubles.
mod frontend;

/// The surroundings of both kinds of models.
mod surroundings;

/// The place in which both wait.
pub mod parkings;

/// A reply that can't be written at once.
pub mod relays;

/// A tunnel.
pub mod tunnels;

use frontend::Frontend;
