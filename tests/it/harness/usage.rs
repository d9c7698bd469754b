//! What a running program uses, as the kernel counts it.

use std::{fs, thread};

use super::Binary;

/// Threads, descriptors and memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub threads: usize,
    pub descriptors: usize,
    pub resident_kib: usize,
}

impl Usage {
    /// Of the process with this number.
    pub fn of(process: u32) -> Usage {
        let entries = |folder: &str| fs::read_dir(format!("/proc/{process}/{folder}")).expect("a running process");
        Usage {
            threads: entries("task").count(),
            descriptors: entries("fd").count(),
            resident_kib: kib_of(process, "VmRSS"),
        }
    }
}

/// The most threads that the program has, whatever waits: 16 on two cores.
pub fn threads_max() -> usize {
    8 + 4 * thread::available_parallelism().map_or(1, usize::from)
}

/// A figure of `/proc/PID/status` that is given in KiB.
pub fn kib_of(process: u32, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

impl Binary {
    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }
}
