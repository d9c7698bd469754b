//! A connection after a 101: bytes both ways between a client and a backend, until both have ended or nothing moves for too
//! long. However a side ends, what it sent before is delivered, and then the other side is told an end in order: a reset would
//! destroy what the kernel still has to send. While nothing is to be moved the tunnel waits in the poller. Knows nothing of what
//! the bytes mean.

use std::thread;
use std::time::Instant;

use crate::downstream::client::socket::{ActiveStream, Client};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::flow::FlowStep;
use crate::downstream::parking::Parking;
use crate::downstream::tunnel_ends::{STEPS_MAX, TunnelEnds};
use crate::message::{Delivery, OnDelivered, TunnelPeer};
use crate::runtime::poller::Event;
use crate::runtime::sync::Arc;

/// A client and a backend that are joined.
pub(crate) struct Tunnel {
    client: Arc<Client>,
    ends: Parking<TunnelEnds>,
    _counted: Arc<()>,
}

/// The ends in the hands of one thread, or on their way to it. If they are dropped there (by a panic, or by a shutdown), they end
/// the tunnel: else it would neither be logged nor closed.
struct HeldEnds {
    tunnel: Arc<Tunnel>,
    ends: Option<Box<TunnelEnds>>,
}

impl HeldEnds {
    /// Moves bytes until there are none to be moved, or others want the thread.
    fn drive(mut self) {
        let tunnel = self.tunnel.clone();
        for _ in 0..STEPS_MAX {
            let Some(ends) = &mut self.ends else { return };
            if tunnel.ends.is_closed() {
                return self.stop();
            }
            let step = ends.step(&tunnel.client);
            ends.forward_ends(&tunnel.client);
            if step < FlowStep::Moved {
                self.pause(step);
            }
        }
        if let Some(ends) = self.ends.take() {
            self.ends = tunnel.ends.park_to_yield(ends, || tunnel.set_deadline(Instant::now()));
        }
    }

    /// Ends the tunnel if it is over, or parks it, since nothing moves. A side whose bytes are discarded puts no deadline off.
    fn pause(&mut self, step: FlowStep) {
        let Some(ends) = &mut self.ends else { return };
        let (tunnel, now) = (&self.tunnel, Instant::now());
        let client = &tunnel.client;
        ends.check_ended_sides(client);
        ends.note_closing(now);
        if ends.is_over(client, now) {
            let delivery = ends.failed.take().unwrap_or(Delivery::Whole);
            return self.end(delivery);
        }
        let deadline = ends.closing_until.unwrap_or(ends.moved_at + client.frontend().write_timeout);
        if now >= deadline {
            return ends.start_closing(client);
        }
        if step == FlowStep::Discarded {
            return;
        }
        if ends.awaits_client(client)
            && let Err(error) = client.want_writable()
        {
            return self.end(Delivery::ClientGone(error));
        }
        self.ends = self.ends.take().and_then(|ends| tunnel.ends.park(ends, || tunnel.set_deadline(deadline)));
    }

    /// Ends the tunnel at once for a shutdown, in order as far as that goes.
    fn stop(&mut self) {
        if let Some(ends) = &mut self.ends {
            ends.close_at_once(&self.tunnel.client);
        }
        self.end(Delivery::Stopped);
    }

    fn end(&mut self, delivery: Delivery) {
        if let Some(ends) = self.ends.take() {
            self.tunnel.end(*ends, delivery);
        }
    }
}

impl Drop for HeldEnds {
    fn drop(&mut self) {
        if !thread::panicking() {
            return self.stop();
        }
        // What the sides have been told may be anything.
        if let Some(ends) = &mut self.ends {
            ends.backend.abort();
        }
        self.end(Delivery::Panicked);
    }
}

impl Tunnel {
    /// Joins the two. The client gets `head` first; `unread` is what it has sent already.
    pub(crate) fn open(
        client: Arc<Client>,
        head: Vec<u8>,
        unread: Vec<u8>,
        mut backend: Box<dyn TunnelPeer>,
        ended: OnDelivered,
    ) {
        let counted = client.frontend().tunnels.clone();
        let tunnel = Arc::new(Tunnel { client, ends: Parking::new(), _counted: counted });
        let is_cut = {
            let mut state = tunnel.client.state.lock();
            state.stream = Some(tunnel.clone());
            state.is_cut
        };
        if is_cut {
            // The cut came before there was a tunnel to be told, and the poller may have stopped.
            tunnel.ends.close();
        }
        let weak = Arc::downgrade(&tunnel);
        backend.when_ready(Arc::new(move || {
            if let Some(tunnel) = weak.upgrade() {
                tunnel.wake();
            }
        }));
        // Bytes that have come by now raise no further edge.
        let ends = Box::new(TunnelEnds::new(backend, head, unread, ended, Instant::now()));
        HeldEnds { tunnel, ends: Some(ends) }.drive();
    }

    /// Drives the tunnel for an event of either side.
    fn wake(self: &Arc<Self>) {
        if let Some(ends) = self.ends.take_or_notify() {
            HeldEnds { tunnel: self.clone(), ends: Some(ends) }.drive();
        }
    }

    /// Ends the tunnel for a shutdown, on the calling thread or on the one that moves its bytes.
    fn cut(self: &Arc<Self>) {
        let ends = self.ends.close();
        HeldEnds { tunnel: self.clone(), ends }.stop();
    }

    fn set_deadline(&self, deadline: Instant) {
        self.client.registration.set_deadline(Some(deadline));
    }

    fn end(&self, ends: TunnelEnds, delivery: Delivery) {
        let TunnelEnds { backend, ended, .. } = ends;
        if matches!(delivery, Delivery::Panicked) {
            self.client.abort();
        } else {
            self.client.close();
        }
        self.client.state.lock().stream = None;
        drop(backend);
        ended(delivery);
    }
}

impl ActiveStream for Tunnel {
    fn on_event(self: Arc<Self>, event: Event) {
        match event {
            Event::Ready { .. } | Event::Expired => self.wake(),
            Event::Drain => {}
            Event::Cut => self.cut(),
        }
    }
}

impl Evictable for Tunnel {
    fn activity(&self) -> Option<Activity> {
        self.ends.inspect(TunnelEnds::activity)
    }

    fn try_evict(self: Arc<Self>, may_evict: &dyn Fn(&Activity) -> bool) -> bool {
        let Some(mut ends) = self.ends.close_if(|ends| may_evict(&ends.activity())) else { return false };
        ends.close_at_once(&self.client);
        HeldEnds { tunnel: self, ends: Some(ends) }.end(Delivery::Evicted);
        true
    }
}
