//! The front as the program has it, but for the room that accepts clients and the one that writes to the disk: these have
//! doubles here.

#[path = "../../../src/front/body.rs"]
mod body;

#[path = "../../../src/front/client.rs"]
mod client;

#[path = "../../../src/front/connection.rs"]
mod connection;

#[path = "../../../src/front/crowd.rs"]
mod crowd;

#[path = "../../../src/front/ends.rs"]
mod ends;

#[path = "../../../src/front/flow.rs"]
mod flow;

#[path = "../../../src/front/further.rs"]
mod further;

#[path = "../../../src/front/head.rs"]
mod head;

#[path = "../../../src/front/http2.rs"]
mod http2;

#[path = "../../../src/front/limits.rs"]
mod limits;

#[path = "../../../src/front/pace.rs"]
mod pace;

#[path = "../../../src/front/parking.rs"]
mod parking;

#[path = "../../../src/front/pipe.rs"]
mod pipe;

#[path = "../../../src/front/relay.rs"]
mod relay;

#[path = "../../../src/front/reply.rs"]
mod reply;

#[path = "../../../src/front/reply_to.rs"]
mod reply_to;

#[path = "../../../src/front/sending.rs"]
mod sending;

#[path = "../../../src/front/standing.rs"]
mod standing;

/// The doubles.
mod frontend;

#[path = "../../../src/front/transfer.rs"]
mod transfer;

#[path = "../../../src/front/tunnel.rs"]
mod tunnel;

#[path = "../../../src/front/turns.rs"]
mod turns;

/// What both kinds of models have around them.
mod house;

/// Where both wait.
pub mod parkings;

/// A reply that can't be written at once.
pub mod relays;

/// A tunnel.
pub mod tunnels;

use frontend::Front;
