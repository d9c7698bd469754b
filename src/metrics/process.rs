//! What the process itself uses, as the kernel tells it. What can't be read is left out: a sandbox may hide it.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the process uses.
#[derive(Debug, Default)]
pub struct ProcessSample {
    /// The time that its threads have run, in seconds.
    pub cpu_seconds: f64,
    /// The memory that it has in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Its open descriptors.
    pub open_files: Option<u64>,
    /// The descriptors that it may have; `None` without a limit.
    pub open_files_max: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
}

impl ProcessSample {
    /// Reads what the process uses now. Blocks for as long as the kernel needs to list the open descriptors.
    pub fn read() -> ProcessSample {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        ProcessSample {
            #[expect(clippy::cast_precision_loss, reason = "a CPU time in seconds is far below 2^52")]
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: number_in(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            // But for the one that lists them.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1)),
            open_files_max: getrlimit(Resource::Nofile).current,
            threads: number_in(&status, "Threads:"),
        }
    }
}

/// The number in the line that begins so: `VmRSS:  4096 kB`.
fn number_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_their_lines() {
        let status = "Name:\tx\nVmRSS:\t    4096 kB\nThreads:\t13\n";
        assert_eq!([number_in(status, "VmRSS:"), number_in(status, "Threads:")], [Some(4096), Some(13)]);
        assert_eq!([number_in(status, "VmSwap:"), number_in("Threads:\n", "Threads:")], [None, None]);
    }

    #[test]
    fn this_process_runs_and_has_files() {
        let process = ProcessSample::read();
        assert!(process.cpu_seconds > 0.0, "{process:?}");
        assert!(process.open_files.is_some_and(|files| files >= 1), "{process:?}");
        assert!(process.threads >= Some(1) && process.resident_bytes >= Some(100 * 1024), "{process:?}");
    }
}
