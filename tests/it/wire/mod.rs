//! Any bytes: a table for each rule of RFC 9110 and RFC 9112, sent over real sockets to a running proxy, and what reached
//! the other side.

mod offsets;
mod over_tls;
mod refusals;
mod requests;
mod responses;
mod streams;

use std::io::Write;

use crate::harness::{Client, Reply};

/// The most pieces that bytes are sent in: short ones go byte by byte.
const PIECES_MAX: usize = 256;

/// Sends bytes in small pieces, each on its way before the next. A proxy that has closed meanwhile is no failure here.
fn drip(client: &mut Client, bytes: &[u8]) {
    client.stream.set_nodelay(true).expect("an open connection");
    for piece in bytes.chunks(bytes.len() / PIECES_MAX + 1) {
        if client.stream.write_all(piece).is_err() {
            return;
        }
    }
}

/// The reply behind any `100 Continue`.
fn final_reply(client: &mut Client) -> Reply {
    loop {
        let reply = client.reply();
        if reply.status != 100 {
            return reply;
        }
    }
}
