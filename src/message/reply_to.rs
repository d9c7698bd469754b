//! The way back to a client, as the makers of its reply see it. Knows nothing of sockets' threads.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::refusal::Refusal;
use super::reply::{Delivery, Reply};
use super::source::OnReady;

/// Called once, on any thread, with the fate of a reply or of a tunnel. It must not block.
pub type OnDelivered = Box<dyn FnOnce(Delivery) + Send>;

/// The way back to the client, good for one reply. If it is dropped unused, the client gets 500.
pub trait ReplyTo: Send {
    /// Sends the reply, its body as that comes and the client takes it. Doesn't block.
    fn send(self: Box<Self>, reply: Reply, delivered: OnDelivered);

    /// Sends a head with status 101 and joins the client with the backend until both have ended. Doesn't block. An
    /// implementation without tunnels refuses, as this default does.
    fn join(self: Box<Self>, _head: Reply, _peer: Box<dyn TunnelPeer>, ended: OnDelivered) {
        self.send(Refusal::NotImplemented("Upgrades aren't implemented here").reply(), ended);
    }

    /// The watch for the client's leaving.
    fn disconnect(&self) -> Arc<dyn Disconnect>;
}

/// The backend's side of a connection that speaks another protocol from now on (RFC 9110 §7.8). Reading and writing
/// don't block: what can't be done at once is an error of kind `WouldBlock`.
pub trait TunnelPeer: Read + Write + AsFd + Send {
    /// Whether bytes that it has taken are still to be sent, by `flush`.
    fn has_unsent(&self) -> bool;

    /// Ends this direction: nothing more will be written. The backend is told once the bytes taken before are sent, by
    /// `flush` if need be.
    fn end_writing(&mut self);

    /// Makes the connection end with a reset once it is dropped, so that the backend can't take what was sent for
    /// complete.
    fn abort(&mut self);

    /// Has `ready` called whenever there may be something to read, or room to write, as long as this side exists.
    fn when_ready(&mut self, ready: OnReady);
}

/// Notices that a client leaves before its reply is through.
pub trait Disconnect: Send + Sync {
    /// Has `abandon` run once if the client leaves; at once, on the caller's thread, if it has left already.
    fn when_gone(&self, abandon: Box<dyn FnOnce() + Send>);
}
