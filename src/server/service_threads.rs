//! The threads that serve what isn't served on the poller's, chosen by what it may wait for. Knows nothing of what is served.

use threadpool::ThreadPool;

use super::routes::Effort;

/// The stack of a worker, of `admin` or of a disk thread, in bytes. They hold a request and start a race. 64 MiB hosts are targets.
const STACK_BYTES: usize = 256 * 1024;

/// The threads beside the poller's that serve requests.
#[derive(Clone)]
pub(super) struct ServiceThreads {
    pub(super) workers: ThreadPool,
    /// One thread: the list changes one step at a time. Nothing else waits for the disk that the list is on.
    admin: ThreadPool,
}

impl ServiceThreads {
    pub(super) fn new(workers: usize) -> ServiceThreads {
        ServiceThreads { workers: threads("worker", workers), admin: threads("admin", 1) }
    }

    /// The threads for what takes this; `None`: the poller's.
    pub(super) fn of(&self, effort: Effort) -> Option<&ThreadPool> {
        match effort {
            Effort::Quick => None,
            Effort::Long => Some(&self.workers),
            Effort::Disk => Some(&self.admin),
        }
    }

    /// The count of what is being served and of what waits for that.
    pub(super) fn under_way(&self) -> usize {
        [&self.workers, &self.admin].iter().map(|pool| pool.active_count() + pool.queued_count()).sum()
    }
}

/// Makes a pool of `count` threads with that name.
pub(super) fn threads(name: &str, count: usize) -> ThreadPool {
    threadpool::Builder::new().num_threads(count).thread_name(name.into()).thread_stack_size(STACK_BYTES).build()
}
