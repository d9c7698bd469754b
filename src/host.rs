//! The memory and the open files that this host lets the process have, and their division. Knows nothing of clients and
//! backends beyond the cost of each.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{statfs, statvfs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::sysinfo;

/// Descriptors that are neither clients' nor backends': listeners, the log, the poller, spool files on their way.
const DESCRIPTORS_RESERVED: u64 = 160;
/// The most clients: more than a small host can serve in a minute; each costs less than 8 KiB while it is idle.
const CLIENTS_MAX: u64 = 100_000;
/// The fewest clients: with less it would be no proxy, whatever the limits.
const CLIENTS_MIN: u64 = 16;
/// A number of clients below which the operator is warned: fewer than a page's worth of browsers.
const CLIENTS_FEW: usize = 128;
/// Requests at once that a host may well get: if there is room for more, as many clients as may connect won't all want
/// one at once.
const REQUESTS_FEW: usize = 1000;
/// The memory that a client costs beside its head, in bytes, the kernel's part included.
const CLIENT_BYTES: u64 = 8 * 1024;
/// The memory that a client may hold instead of a head, in bytes: while its body is written to a file, the bytes of one
/// read, and a buffer; while it takes its reply slowly, a piece of that; while it shakes hands by TLS, what it has sent.
const BODY_BUFFERS_BYTES: u64 = 48 * 1024;
/// The fewest connections to backends: one for each backend of the longest list.
const UPSTREAM_MIN: u64 = 64;
/// The memory that a connection to a backend costs while it waits, in bytes: 14 KiB were measured for POSTs that hang.
/// An answer's head may take 24 KiB, but backends are seldom all so hostile at once.
const CONNECTION_BYTES: u64 = 16 * 1024;
/// Long uploads at once that even a small host may well get.
const UPLOADS_FEW: u64 = 16;
/// The types of the file systems whose files are memory, tmpfs and ramfs, as `statfs` tells them.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
/// The bytes of a request's head that a connection's socket takes at once, also if its backend reads nothing: by Linux's
/// defaults it takes twice as many. A leg holds those beyond them until they are sent.
const SOCKET_BYTES: u64 = 32 * 1024;

/// The limits of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// The memory that it may have, in bytes.
    pub memory_bytes: u64,
    /// The descriptors that it may have.
    pub open_files: u64,
}

/// The connections that fit into the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Clients, as far as open files go.
    pub clients_by_files: usize,
    /// Clients, as far as memory goes.
    pub clients_by_memory: usize,
    /// Connections to backends.
    pub upstream: usize,
}

impl Host {
    /// Reads the limits in force. One that can't be read doesn't count. `/proc/meminfo` isn't asked: a service's
    /// sandbox may hide it.
    #[allow(clippy::useless_conversion, reason = "32-bit hosts tell their memory in 32 bits")]
    pub fn read() -> Host {
        let physical = sysinfo();
        let physical = u64::from(physical.totalram).saturating_mul(u64::from(physical.mem_unit).max(1));
        let address_space = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
        let memory_bytes = physical.min(address_space).min(cgroup_bytes(Path::new("/")).unwrap_or(u64::MAX));
        Host { memory_bytes, open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX) }
    }

    /// Divides the limits if a client's head may have `head_bytes_max` bytes.
    ///
    /// Of the descriptors half is for clients: each may need a second one for the file of its body, and a sixteenth more may
    /// be on their way out. The other half is for connections to backends. Of the memory half is for clients, a quarter for bodies (see
    /// [`crate::message::SpoolMemory::within`]), an eighth for connections to backends, and the rest for the program itself.
    pub fn capacity(&self, head_bytes_max: usize) -> Capacity {
        let half = self.open_files.saturating_sub(DESCRIPTORS_RESERVED) / 2;
        // A buffer that grows by doubling may be twice as long as what is in it.
        let client_bytes = (2 * head_bytes_max as u64).max(BODY_BUFFERS_BYTES) + CLIENT_BYTES;
        let connection_bytes = CONNECTION_BYTES + (head_bytes_max as u64).saturating_sub(SOCKET_BYTES);
        let clients = |count: u64| size(count.clamp(CLIENTS_MIN, CLIENTS_MAX));
        Capacity {
            clients_by_files: clients(half / 33 * 16 + half % 33 * 16 / 33),
            clients_by_memory: clients(self.memory_bytes / 2 / client_bytes),
            upstream: size((self.memory_bytes / 8 / connection_bytes).min(half).max(UPSTREAM_MIN)),
        }
    }

    /// Warnings for an operator who wants this number of clients: a line each.
    pub fn complaints(&self, capacity: &Capacity, clients: Option<usize>) -> Vec<String> {
        let (files, mebibytes) = (self.open_files, self.memory_bytes >> 20);
        let few = clients.unwrap_or(CLIENTS_FEW);
        let by_files = few > capacity.clients_by_files;
        let by_memory = few > capacity.clients_by_memory;
        let complaints = [
            by_files.then(|| {
                let capacity = capacity.clients_by_files;
                format!("the limit of {files} open files leaves room for {capacity} clients: raise it (ulimit -n)")
            }),
            by_memory.then(|| {
                let advice = if clients.is_some() { "raise it, or lower --max-connections" } else { "raise it" };
                let capacity = capacity.clients_by_memory;
                format!("the limit of {mebibytes} MiB of memory leaves room for {capacity} clients: {advice}")
            }),
        ];
        complaints.into_iter().flatten().collect()
    }

    /// A warning for an operator if the files of bodies are in memory, of which their directory may take `of_memory` bytes, and those of a
    /// few bodies take more than the eighth that is left for the program itself: no part of the memory is reckoned for them.
    pub fn spool_complaint(&self, directory: &str, of_memory: Option<u64>, body_bytes_max: u64) -> Option<String> {
        let bytes = UPLOADS_FEW.saturating_mul(body_bytes_max).min(of_memory?);
        (bytes > self.memory_bytes / 8).then(|| {
            let (mebibytes, all) = (bytes >> 20, self.memory_bytes >> 20);
            format!(
                "--spool-dir {directory} is in memory (tmpfs): {UPLOADS_FEW} bodies may take {mebibytes} MiB of {all} MiB there; \
                 name a directory on a disk, or lower --max-body"
            )
        })
    }
}

impl Capacity {
    /// The number of clients in effect: as many as fit, or as many as are wanted, if there are descriptors for them.
    pub fn clients(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or(self.clients_by_memory).min(self.clients_by_files)
    }

    /// The limits of connections if this number of clients is wanted.
    pub fn limits(&self, wanted: Option<usize>) -> ConnectionLimits {
        ConnectionLimits { clients: self.clients(wanted), are_wanted: wanted.is_some(), upstream: self.upstream }
    }
}

/// The most connections of both kinds.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// From clients.
    pub clients: usize,
    /// Whether the operator asked for this number of clients.
    pub are_wanted: bool,
    /// To all backends together.
    pub upstream: usize,
}

impl ConnectionLimits {
    /// A warning for an operator if as many clients as may connect could want more connections to the backends than
    /// there may be.
    pub fn complaint(self, backends: usize) -> Option<String> {
        let ConnectionLimits { clients, are_wanted, upstream } = self;
        let is_tight = clients.saturating_mul(backends) > upstream;
        (is_tight && (are_wanted || upstream < backends.saturating_mul(REQUESTS_FEW))).then(|| {
            format!(
                "{clients} clients could want a connection each to {backends} backends, and there is room for {upstream}: \
                 beyond it they get 503, so raise the limits of open files (ulimit -n) and memory, or lower --max-connections"
            )
        })
    }
}

/// Raises the limit of open files as far as it goes.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // To the limit that the process may set itself: that can hardly fail, and where it does accepting says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The bytes of memory that a directory's files may take, if its file system has no disk; one without a bound may take all.
#[allow(clippy::useless_conversion, reason = "32-bit hosts tell the type in 32 bits")]
pub fn memory_of_files(directory: &Path) -> Option<u64> {
    let kind = statfs(directory).ok()?.f_type;
    if !IN_MEMORY.contains(&i64::from(kind)) {
        return None;
    }
    let whole = statvfs(directory).ok()?;
    Some(whole.f_blocks.saturating_mul(whole.f_frsize)).map(|bytes| if bytes == 0 { u64::MAX } else { bytes })
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The least memory that the process's control group or one above it may have, if any is bounded: by version 2
/// (`memory.max`), by version 1 (`memory.limit_in_bytes`), or by both.
fn cgroup_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let bounds = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let mounted = root.join("sys/fs/cgroup");
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        match controllers {
            "" => {
                [mounted.clone(), mounted.join("unified")].iter().filter_map(|at| least(at, group, "memory.max")).min()
            }
            _ if is_memory => least(&mounted.join("memory"), group, "memory.limit_in_bytes"),
            _ => None,
        }
    });
    bounds.min()
}

/// The least number in such a file of a group and of those above it. In a container a group's name may be the host's
/// and lead nowhere; the container's own group is at the mount itself then.
fn least(mounted: &Path, group: &str, file: &str) -> Option<u64> {
    let names = Path::new(group).components().filter(|part| matches!(part, Component::Normal(_)));
    let group: PathBuf = mounted.components().chain(names).collect();
    let up = group.ancestors().take_while(|at| at.starts_with(mounted));
    up.filter_map(|at| fs::read_to_string(at.join(file)).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_least_of_all_groups_that_the_process_is_in_counts() {
        let rows: &[(&str, &str, &[(&str, &str)], Option<u64>)] = &[
            ("no groups at all", "", &[], None),
            ("version 2", "0::/a/b", &[("a/b/memory.max", "1000\n")], Some(1000)),
            ("no bound", "0::/a/b", &[("a/b/memory.max", "max\n")], None),
            ("a group above", "0::/a/b", &[("a/memory.max", "5"), ("a/b/memory.max", "7")], Some(5)),
            ("its own is less", "0::/a/b", &[("a/memory.max", "7"), ("a/b/memory.max", "5")], Some(5)),
            ("only above", "0::/a/b", &[("a/memory.max", "7"), ("a/b/memory.max", "max")], Some(7)),
            ("another's", "0::/a", &[("b/memory.max", "7")], None),
            ("in a container", "0::/", &[("memory.max", "7")], Some(7)),
            ("in a container, by the host's name", "0::/docker/x", &[("memory.max", "7")], Some(7)),
            ("beyond the mount", "0::/../../a", &[("a/memory.max", "7"), ("../memory.max", "5")], Some(7)),
            ("version 1", "4:memory:/a", &[("memory/a/memory.limit_in_bytes", "7")], Some(7)),
            ("version 1, shared", "4:cpu,memory:/a", &[("memory/a/memory.limit_in_bytes", "7")], Some(7)),
            ("version 1, the mount's", "4:memory:/docker/x", &[("memory/memory.limit_in_bytes", "7")], Some(7)),
            ("another controller's", "3:cpuset:/a", &[("memory/a/memory.limit_in_bytes", "7")], None),
            (
                "both versions",
                "4:memory:/a\n0::/b",
                &[("memory/a/memory.limit_in_bytes", "9223372036854771712"), ("unified/b/memory.max", "5")],
                Some(5),
            ),
            ("a colon in a name", "0::/a:b", &[("a:b/memory.max", "7")], Some(7)),
            ("noise", "0::/a\nx\n:", &[("a/memory.max", "-1 kB")], None),
        ];
        for (label, groups, files, expected) in rows {
            let root = tempfile::tempdir().expect("a directory");
            let write = |path: &Path, text: &str| {
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(path, text).expect("a file");
            };
            fs::create_dir_all(root.path().join("sys/fs/cgroup")).expect("a folder");
            write(&root.path().join("proc/self/cgroup"), groups);
            for (path, text) in *files {
                write(&root.path().join("sys/fs/cgroup").join(path), text);
            }
            assert_eq!(cgroup_bytes(root.path()), *expected, "{label}");
        }
        assert_eq!(cgroup_bytes(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_file_system_without_a_disk_is_told_by_its_type() {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        // Of several at one place the last is seen.
        let seen = mounts.lines().map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
        });
        let seen: HashMap<&str, &str> = seen.collect();
        let known = [("tmpfs", true), ("ramfs", true), ("proc", false), ("ext4", false), ("overlay", false)];
        for (at, kind) in seen.into_iter().filter(|(at, _)| statfs(*at).is_ok()) {
            let expected = known.iter().find(|(name, _)| *name == kind).map(|(_, is_in_memory)| *is_in_memory);
            let is_in_memory = memory_of_files(Path::new(at)).is_some();
            assert_eq!(expected.unwrap_or(is_in_memory), is_in_memory, "{at}: {kind}");
        }
        assert_eq!(memory_of_files(Path::new("/proc")), None);
        assert_eq!(memory_of_files(Path::new("/nonexistent")), None);
    }

    #[test]
    fn bodies_in_memory_are_told_where_a_few_take_much_of_it() {
        let rows = [
            ("on a disk", 64, None, 10, None),
            ("a small host", 64, Some(32 * MIB), 10, Some("16 bodies may take 32 MiB of 64 MiB there")),
            ("one with 1 GiB", 1024, Some(u64::MAX), 10, Some("16 bodies may take 160 MiB of 1024 MiB there")),
            ("a large one", 1280, Some(640 * MIB), 10, None),
            ("a large one with longer bodies", 1280, Some(640 * MIB), 11, Some("176 MiB of 1280 MiB")),
            ("a mount with a bound", 256, Some(32 * MIB), 10, None),
            ("shorter bodies", 64, Some(32 * MIB), 0, None),
        ];
        for (label, memory, of_memory, body_mebibytes, expected) in rows {
            let host = Host { memory_bytes: memory * MIB, open_files: 1024 };
            let told = host.spool_complaint("/tmp", of_memory, body_mebibytes * MIB);
            assert_eq!(told.is_some(), expected.is_some(), "{label}: {told:?}");
            assert!(told.iter().zip(expected).all(|(told, part)| told.contains(part)), "{label}: {told:?}");
        }
    }

    #[test]
    fn what_fits_follows_memory_and_open_files() {
        let rows = [
            (
                "64 MiB",
                64 * MIB,
                1 << 20,
                Capacity { clients_by_files: 100_000, clients_by_memory: 585, upstream: 512 },
            ),
            (
                "256 MiB",
                256 * MIB,
                1 << 20,
                Capacity { clients_by_files: 100_000, clients_by_memory: 2340, upstream: 2048 },
            ),
            (
                "20,000 files",
                1 << 30,
                20_000,
                Capacity { clients_by_files: 4809, clients_by_memory: 9362, upstream: 8192 },
            ),
            ("1,024 files", 1 << 30, 1024, Capacity { clients_by_files: 209, clients_by_memory: 9362, upstream: 432 }),
            ("nothing", 0, 0, Capacity { clients_by_files: 16, clients_by_memory: 16, upstream: 64 }),
            (
                "no limit",
                u64::MAX,
                u64::MAX,
                Capacity {
                    clients_by_files: 100_000,
                    clients_by_memory: 100_000,
                    upstream: size((u64::MAX / 8 / CONNECTION_BYTES).min((u64::MAX - 160) / 2)),
                },
            ),
        ];
        for (label, memory_bytes, open_files, expected) in rows {
            assert_eq!(Host { memory_bytes, open_files }.capacity(16 * 1024), expected, "{label}");
        }
    }

    #[test]
    fn what_is_wanted_is_had_as_far_as_open_files_go_and_what_does_not_fit_is_told() {
        let host = Host { memory_bytes: 64 * MIB, open_files: 20_000 };
        let capacity = host.capacity(16 * 1024);
        let rows: [(&str, Option<usize>, usize, &[&str]); 4] = [
            ("what fits", None, 585, &[]),
            ("less", Some(17), 17, &[]),
            (
                "more than memory has room for",
                Some(1000),
                1000,
                &["64 MiB of memory leaves room for 585 clients: raise it, or lower --max-connections"],
            ),
            ("more than files, too", Some(5000), 4809, &["20000 open files leaves room for 4809", "for 585 clients"]),
        ];
        for (label, wanted, expected, told) in rows {
            assert_eq!(capacity.clients(wanted), expected, "{label}");
            let complaints = host.complaints(&capacity, wanted);
            let all_told = complaints.iter().zip(told).all(|(complaint, text)| complaint.contains(text));
            assert!(all_told && complaints.len() == told.len(), "{label}: {complaints:?}");
        }
        let tiny = Host { memory_bytes: 8 * MIB, open_files: 20_000 };
        let complaints = tiny.complaints(&tiny.capacity(16 * 1024), None);
        assert_eq!(complaints, ["the limit of 8 MiB of memory leaves room for 73 clients: raise it"]);
    }

    #[test]
    fn too_few_connections_to_backends_are_told_where_they_may_run_out() {
        let rows = [
            ("enough for all", 100, false, 300, 3, false),
            ("wanted, and too few", 101, true, 300, 3, true),
            ("not wanted, and few", 101, false, 300, 3, true),
            ("not wanted, and plenty", 100_000, false, 3000, 3, false),
        ];
        for (label, clients, are_wanted, upstream, backends, told) in rows {
            assert_eq!(
                ConnectionLimits { clients, are_wanted, upstream }.complaint(backends).is_some(),
                told,
                "{label}"
            );
        }
    }

    /// All of it at once is no more than there is, but for the needs of the smallest proxy.
    #[test]
    fn everything_together_fits_into_memory() {
        for memory_bytes in [64 * MIB, 100 * MIB, 512 * MIB, 4096 * MIB] {
            let long_head = (memory_bytes > 64 * MIB).then_some(256 * 1024);
            for head_bytes_max in [16 * 1024, 32 * 1024].into_iter().chain(long_head) {
                let capacity = Host { memory_bytes, open_files: 1 << 20 }.capacity(head_bytes_max);
                let clients = capacity.clients(None) as u64 * (2 * head_bytes_max as u64 + CLIENT_BYTES);
                let bodies = (memory_bytes / 4).min(16 * MIB);
                let unsent = (head_bytes_max as u64).saturating_sub(SOCKET_BYTES);
                let used = clients + bodies + capacity.upstream as u64 * (CONNECTION_BYTES + unsent);
                assert!(used <= memory_bytes / 8 * 7, "{used} of {memory_bytes}");
            }
        }
    }

    /// Was seen as: with `--max-head 256KiB` fewer clients than fit ended the process, for their legs held the heads.
    #[test]
    fn the_longer_a_head_may_be_the_fewer_connections_fit() {
        let host = Host { memory_bytes: 1 << 30, open_files: 1 << 20 };
        let upstream = [16, 32, 64, 256].map(|kibibytes| host.capacity(kibibytes * 1024).upstream);
        assert_eq!(upstream, [8192, 8192, 2730, 546]);
    }

    #[test]
    fn this_host_has_some_of_each() {
        let host = Host::read();
        assert!(host.memory_bytes > 16 * MIB && host.open_files > 64, "{host:?}");
    }
}
