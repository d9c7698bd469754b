//! What clients may cost.

use super::Flag;
use crate::config::{Listen, values};
use crate::host::Host;
use crate::message::REQUEST_HEAD_BYTES_MAX;

/// The most client connections: as many descriptors as Linux lets a process have (`fs.nr_open`).
const CONNECTIONS_MAX: usize = 1 << 20;

/// The most workers. They never wait, so more than a few per core only cost memory.
const WORKERS_MAX: usize = 1024;

/// In the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "listen",
        env: "RED_TENTACLE_LISTEN",
        value: "IP:PORT,...",
        default: "0.0.0.0:8080 and, where IPv6 exists, [::]:8080",
        help: "Where clients connect",
        set: |draft, text| {
            draft.config.listen = Listen::parse_list(text)?;
            Ok(())
        },
        show: |draft| values::show_list(&draft.config.listen),
    },
    Flag {
        name: "max-body",
        env: "RED_TENTACLE_MAX_BODY",
        value: "SIZE",
        default: "10MiB",
        help: "Largest request body; larger ones get 413",
        set: |draft, text| {
            draft.config.max_body = values::size(text)?;
            Ok(())
        },
        show: |draft| values::show_size(draft.config.max_body),
    },
    Flag {
        name: "spool-dir",
        env: "RED_TENTACLE_SPOOL_DIR",
        value: "DIR",
        default: "TMPDIR, or /tmp",
        help: "Where request bodies above 64 KiB wait, in unlinked files",
        set: |draft, text| {
            draft.config.spool_dir = text.into();
            Ok(())
        },
        show: |draft| draft.config.spool_dir.display().to_string(),
    },
    Flag {
        name: "max-connections",
        env: "RED_TENTACLE_MAX_CONNECTIONS",
        value: "COUNT",
        default: "from the limits of open files and memory",
        help: "Most client connections at once; beyond it one that makes least of its place is closed for each new one",
        set: |draft, text| {
            draft.config.max_connections = Some(values::count(text, 1, CONNECTIONS_MAX)?);
            Ok(())
        },
        show: |draft| match draft.config.max_connections {
            Some(count) => count.to_string(),
            None => {
                let room = Host::read().room(REQUEST_HEAD_BYTES_MAX);
                format!("{} (from the limits of open files and memory)", room.clients(None))
            }
        },
    },
    Flag {
        name: "workers",
        env: "RED_TENTACLE_WORKERS",
        value: "COUNT",
        default: "2 per core",
        help: "Threads that begin races of many backends; they never wait for one",
        set: |draft, text| {
            draft.config.workers = values::count(text, 1, WORKERS_MAX)?;
            Ok(())
        },
        show: |draft| draft.config.workers.to_string(),
    },
];
