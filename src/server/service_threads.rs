//! The threads that serve what isn't served on the poller's, chosen by what it may wait for. Knows nothing of what is served.

use std::io;
use std::panic::catch_unwind;

use threadpool::ThreadPool;

use super::routes::Effort;

/// The most exchanges that wait for a worker. Workers never wait themselves: a race is begun in microseconds, an answer of 64 KiB is
/// looked through for a pattern in milliseconds.
const WORKER_QUEUE_MAX: usize = 1024;
/// The most that wait for the thread `admin`, which waits for the disk: few of the connections on the admin port, or probes got none.
const ADMIN_QUEUE_MAX: usize = 8;
/// The stack of a worker, of `admin` or of a thread `disk`, in bytes. They hold a request and start a race. 64 MiB hosts are targets.
const STACK_BYTES: usize = 256 * 1024;

/// The threads beside the poller's that serve requests.
#[derive(Clone)]
pub(super) struct ServiceThreads {
    pub(super) workers: ThreadPool,
    /// One thread: the list changes one step at a time. Nothing else waits for the disk that the list is on.
    admin: ThreadPool,
}

impl ServiceThreads {
    pub(super) fn new(workers: usize) -> io::Result<ServiceThreads> {
        Ok(ServiceThreads { workers: threads("worker", workers)?, admin: threads("admin", 1)? })
    }

    /// The threads for what takes this; `None`: the poller's.
    pub(super) fn of(&self, effort: Effort) -> Option<&ThreadPool> {
        match effort {
            Effort::Quick => None,
            Effort::Long => Some(&self.workers),
            Effort::Admin => Some(&self.admin),
        }
    }

    /// Whether what takes this may wait for its thread.
    pub(super) fn has_room(&self, effort: Effort) -> bool {
        match effort {
            Effort::Quick => true,
            Effort::Long => self.workers.queued_count() < WORKER_QUEUE_MAX,
            Effort::Admin => self.admin.queued_count() < ADMIN_QUEUE_MAX,
        }
    }

    /// The count of what is being served and of what waits for that.
    pub(super) fn under_way(&self) -> usize {
        [&self.workers, &self.admin].iter().map(|pool| pool.active_count() + pool.queued_count()).sum()
    }
}

/// Makes a pool of `count` threads with that name. An error means that the host refuses one.
pub(super) fn threads(name: &str, count: usize) -> io::Result<ThreadPool> {
    let builder = threadpool::Builder::new().num_threads(count).thread_name(name.into()).thread_stack_size(STACK_BYTES);
    // It has no other way to tell than a panic.
    catch_unwind(|| builder.build()).map_err(|_| io::Error::other("the host allows no more"))
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    /// Was seen as: 64 requests for the page behind an update whose disk hung left no connection for a probe.
    #[test]
    fn few_wait_for_the_disk_and_they_are_in_nothing_else_s_way() {
        let (threads, (gate, held)) = (ServiceThreads::new(1).expect("threads"), bounded::<()>(0));
        let efforts = [Effort::Quick, Effort::Long, Effort::Admin];
        let has_room = || efforts.map(|effort| threads.has_room(effort));
        let (sender, begun) = bounded(1);
        let hang = held.clone();
        threads.admin.execute(move || {
            sender.send(()).expect("the test listens");
            let _ = hang.recv();
        });
        begun.recv().expect("it hangs");
        for _ in 0..ADMIN_QUEUE_MAX {
            assert_eq!(has_room(), [true; 3]);
            let hang = held.clone();
            threads.admin.execute(move || assert!(hang.recv().is_err()));
        }
        assert_eq!(has_room(), [true, true, false]);
        drop(gate);
        threads.admin.join();
        assert_eq!(has_room(), [true; 3]);
    }
}
