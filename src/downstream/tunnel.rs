//! A connection after a 101: bytes both ways between a client and a backend, until both have ended or nothing moves for too
//! long. However a side ends, what it sent before is delivered, and then the other side is told an end in order: a reset would
//! destroy what the kernel still has to send. While nothing is to be moved it waits in the poller. Knows nothing of what the
//! bytes mean.

use std::thread;
use std::time::Instant;

use crate::downstream::client::socket::{ActiveStream, Client};
use crate::downstream::connection_table::Evictable;
use crate::downstream::eviction::Activity;
use crate::downstream::flow::Progress;
use crate::downstream::parking::Parking;
use crate::downstream::tunnel_ends::{ROUNDS_MAX, TunnelEnds};
use crate::message::{Delivery, OnDelivered, TunnelPeer};
use crate::runtime::poller::Event;
use crate::runtime::sync::Arc;

/// Two connections that are one.
pub(crate) struct Tunnel {
    client: Arc<Client>,
    ends: Parking<TunnelEnds>,
}

/// The ends in the hands of one thread, or on their way to it. Dropped there (by a panic, or since the house takes no more
/// work), they end the tunnel: it would never be heard of again.
struct Held {
    tunnel: Arc<Tunnel>,
    ends: Option<Box<TunnelEnds>>,
}

impl Held {
    /// Moves what is there, until nothing is, or others want the thread.
    fn work(mut self) {
        let tunnel = self.tunnel.clone();
        for _ in 0..ROUNDS_MAX {
            let Some(ends) = &mut self.ends else { return };
            if tunnel.ends.is_closed() {
                return self.stop();
            }
            let progress = ends.step(&tunnel.client);
            ends.tell_ends(&tunnel.client);
            if progress < Progress::Moved {
                self.pause(progress);
            }
        }
        if let Some(ends) = self.ends.take() {
            self.ends = tunnel.ends.park_to_yield(ends, || tunnel.set_deadline(Instant::now()));
        }
    }

    /// Nothing moves: the tunnel is over, or the poller waits. A side whose bytes are thrown away puts no deadline off.
    fn pause(&mut self, progress: Progress) {
        let Some(ends) = &mut self.ends else { return };
        let (tunnel, now) = (&self.tunnel, Instant::now());
        let client = &tunnel.client;
        ends.look_after_ended(client);
        if ends.is_over(now) {
            let delivery = ends.failed.take().unwrap_or(Delivery::Whole);
            return self.end(delivery);
        }
        let deadline = ends.parts_until.unwrap_or(ends.moved_at + client.frontend().write_timeout);
        if now >= deadline {
            return ends.start_closing(client);
        }
        if progress == Progress::ThrownAway {
            return;
        }
        if ends.waits_for_client()
            && let Err(error) = client.want_writable()
        {
            return self.end(Delivery::ClientGone(error));
        }
        self.ends = self.ends.take().and_then(|ends| tunnel.ends.park(ends, || tunnel.set_deadline(deadline)));
    }

    /// Ends the tunnel here and now, in order as far as that goes.
    fn stop(&mut self) {
        if let Some(ends) = &mut self.ends {
            ends.part_at_once(&self.tunnel.client);
        }
        self.end(Delivery::Stopped);
    }

    fn end(&mut self, delivery: Delivery) {
        if let Some(ends) = self.ends.take() {
            self.tunnel.end(*ends, delivery);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !thread::panicking() {
            return self.stop();
        }
        // What the sides have been told may be anything.
        if let Some(ends) = &mut self.ends {
            ends.far.abort();
        }
        self.end(Delivery::Panicked);
    }
}

impl Tunnel {
    /// Joins the two; `unread` is what the client has sent already.
    pub(crate) fn open(client: Arc<Client>, unread: Vec<u8>, mut far: Box<dyn TunnelPeer>, ended: OnDelivered) {
        let tunnel = Arc::new(Tunnel { client, ends: Parking::new() });
        let is_cut = {
            let mut state = tunnel.client.state();
            state.stream = Some(tunnel.clone());
            state.is_cut
        };
        if is_cut {
            // There was no tunnel to be told, and the poller may have stopped.
            tunnel.ends.close();
        }
        let weak = Arc::downgrade(&tunnel);
        far.when_ready(Arc::new(move || {
            if let Some(tunnel) = weak.upgrade() {
                tunnel.wake();
            }
        }));
        // There may be something to read by now, and no edge will tell.
        let ends = Box::new(TunnelEnds::new(far, unread, ended, Instant::now()));
        Held { tunnel, ends: Some(ends) }.work();
    }

    /// Something has happened at one of the ends.
    fn wake(self: &Arc<Self>) {
        if let Some(ends) = self.ends.take_or_notify() {
            Held { tunnel: self.clone(), ends: Some(ends) }.work();
        }
    }

    /// The house is closed: the tunnel ends here and now, or on the thread that moves its bytes.
    fn cut(self: &Arc<Self>) {
        let ends = self.ends.close();
        Held { tunnel: self.clone(), ends }.stop();
    }

    fn set_deadline(&self, deadline: Instant) {
        self.client.registration.set_deadline(Some(deadline));
    }

    fn end(&self, ends: TunnelEnds, delivery: Delivery) {
        let TunnelEnds { far, ended, .. } = ends;
        if matches!(delivery, Delivery::Panicked) {
            self.client.abort();
        } else {
            self.client.close();
        }
        self.client.state().stream = None;
        drop(far);
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
        self.ends.look(TunnelEnds::activity)
    }

    fn try_evict(self: Arc<Self>, goes: &dyn Fn(&Activity) -> bool) -> bool {
        let Some(mut ends) = self.ends.take_for_eviction(|ends| goes(&ends.activity())) else { return false };
        ends.part_at_once(&self.client);
        Held { tunnel: self, ends: Some(ends) }.end(Delivery::Evicted);
        true
    }
}
