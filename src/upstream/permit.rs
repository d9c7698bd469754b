//! Bounds the connections: the limit of descriptors bounds them, and the files that their legs keep open. Knows nothing of what
//! they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::Outcome;
use crate::upstream::shared::Upstream;

/// A permit for one connection, given back when it is dropped.
pub(crate) struct Permit {
    upstream: Arc<Upstream>,
    /// The count of permits that one backend has.
    own: Arc<AtomicUsize>,
}

impl Permit {
    /// Takes a permit. A backend may have as many as are left for all others: one that hangs can't take the last from those
    /// that answer.
    pub(crate) fn take(upstream: &Arc<Upstream>, own: &Arc<AtomicUsize>) -> Result<Permit, Outcome> {
        // Counted first, so that the bound holds while other threads count.
        let (permit, all_before, own_before) = Permit::count(upstream, own);
        let left = upstream.options.connections_max.saturating_sub(all_before);
        if own_before < left { Ok(permit) } else { Err(Outcome::NoSocket) }
    }

    /// The number of this backend's permits that must be given back before [`Permit::take`] succeeds: each counts for it and for all.
    pub(crate) fn excess(upstream: &Upstream, own: &AtomicUsize) -> usize {
        let counted = own.load(Ordering::Relaxed) + upstream.connections.load(Ordering::Relaxed);
        (counted + 1).saturating_sub(upstream.options.connections_max).div_ceil(2)
    }

    /// Takes a permit, whether there may be one or not, and gives how many there were: in all, and of this backend.
    pub(crate) fn count(upstream: &Arc<Upstream>, own: &Arc<AtomicUsize>) -> (Permit, usize, usize) {
        let permit = Permit { upstream: upstream.clone(), own: own.clone() };
        let all_before = upstream.connections.fetch_add(1, Ordering::Relaxed);
        (permit, all_before, own.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.upstream.connections.fetch_sub(1, Ordering::Relaxed);
        self.own.fetch_sub(1, Ordering::Relaxed);
    }
}
