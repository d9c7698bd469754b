//! The way back to a client, seen from where its reply is made.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::refusal::Refusal;
use super::reply::{Delivery, Reply};
use super::source::OnReady;

/// Told once, on any thread, what became of a reply or of a tunnel.
pub type OnDelivered = Box<dyn FnOnce(Delivery) + Send>;

/// The way back to the client, good for one reply. If it is dropped unused, the client gets 500.
pub trait ReplyTo: Send {
    /// Sends the reply, its body as that comes and the client takes it. Doesn't block.
    fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered);

    /// Sends a head with status 101 and joins the client with the backend until both have ended. Doesn't block; who can't do
    /// it refuses.
    fn join(self: Box<Self>, _head: Reply, _far: Box<dyn TunnelPeer>, ended: OnDelivered) {
        self.send(Refusal::NotImplemented("Upgrades aren't implemented here").reply(), ended);
    }

    /// What tells when the client leaves.
    fn disconnect(&self) -> Arc<dyn Disconnect>;
}

/// The backend's side of a connection that speaks another protocol from now on (RFC 9110 §7.8). Reading and writing don't
/// wait: what can't be done at once is an error of kind `WouldBlock`.
pub trait TunnelPeer: Read + Write + AsFd + Send {
    /// Whether bytes that it has taken are still to be sent, by `flush`.
    fn has_unsent(&self) -> bool;

    /// Nothing more will be written. Its end is told once what it has taken is sent, by `flush` if need be.
    fn end_writing(&mut self);

    /// It ends with a reset once it is dropped: nobody must take what was sent for complete.
    fn abort(&mut self);

    /// Has `ready` called whenever there may be something to read, or room, as long as this side is there.
    fn when_ready(&mut self, ready: OnReady);
}

/// Notices that a client leaves before its reply is through.
pub trait Disconnect: Send + Sync {
    /// Has `abandon` run once if the client leaves; at once if it has left already.
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>);
}
