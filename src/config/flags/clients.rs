//! Connections from clients: addresses, and limits of what a client may cost.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use super::flag::{ENTRIES_MAX, Flag};
use crate::config::{Kind, Listen, values};
use crate::host::Host;
use crate::message::shown_path;

/// The most client connections: as many descriptors as Linux lets a process have (`fs.nr_open`).
const CONNECTIONS_MAX: usize = 1 << 20;

/// The count that is offered in place of a text that is no number.
const CONNECTIONS_OFFERED: usize = 1000;

/// Bounds of `--max-head`, in bytes. Less has no room for an ordinary browser's head; of more, 10,000 clients that send
/// half of one would hold more than the 2.5 GiB that these are.
const HEAD_BYTES: RangeInclusive<usize> = 1 << 10..=256 << 10;

/// The most workers. They never wait, so more than a few per core only cost memory.
const WORKERS_MAX: usize = 1024;

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "listen",
        env: "RED_TENTACLE_LISTEN",
        value: "ADDRESS,...|off",
        default: "0.0.0.0:8080 and, where IPv6 exists, [::]:8080",
        help: "Where clients connect",
        set: |draft, text| {
            Listen::parse_list(text, Kind { port: 8080, is_private: false }).map(|all| draft.config.listen = all)
        },
        show: |draft| values::show_listen(&draft.config.listen),
    },
    Flag {
        name: "max-head",
        env: "RED_TENTACLE_MAX_HEAD",
        value: "SIZE",
        default: "32KiB",
        help: "Longest request head, from 1KiB to 256KiB; longer ones get 431. A client that sends half of one holds it in \
               memory for up to 10 s",
        set: |draft, text| {
            values::size_within(text, HEAD_BYTES, draft.config.max_head).map(|bytes| draft.config.max_head = bytes)
        },
        show: |draft| values::show_size(draft.config.max_head as u64),
    },
    Flag {
        name: "max-body",
        env: "RED_TENTACLE_MAX_BODY",
        value: "SIZE",
        default: "10MiB",
        help: "Largest request body; larger ones get 413",
        set: |draft, text| values::size(text).map(|bytes| draft.config.max_body = bytes),
        show: |draft| values::show_size(draft.config.max_body),
    },
    Flag {
        name: "spool-dir",
        env: "RED_TENTACLE_SPOOL_DIR",
        value: "DIR",
        default: "TMPDIR, or /tmp",
        help: "Where request bodies above 64 KiB wait, in unlinked files: on a disk, since on tmpfs they take memory",
        set: |draft, text| {
            draft.config.spool_dir = text.into();
            Ok(())
        },
        show: |draft| shown_path(&draft.config.spool_dir),
    },
    Flag {
        name: "max-connections",
        env: "RED_TENTACLE_MAX_CONNECTIONS",
        value: "COUNT",
        default: "from the limits of open files and memory",
        help: "Most client connections at once; beyond it one that makes least of its place is closed for each new one",
        set: |draft, text| {
            draft.config.max_connections = Some(values::count(text, 1, CONNECTIONS_MAX, CONNECTIONS_OFFERED)?);
            Ok(())
        },
        show: |draft| show_clients(&Host::read(), draft.config.max_head, draft.config.max_connections),
    },
    Flag {
        name: "trusted-proxies",
        env: "RED_TENTACLE_TRUSTED_PROXIES",
        value: "CIDR,...|none",
        default: "127.0.0.0/8,::1/128",
        help: "Proxies before this one whose X-Forwarded-* and Forwarded are believed; those of others are replaced",
        set: |draft, text| {
            let network = |entry: &str| values::network(entry).map_err(|reason| reason + ", or none alone");
            draft.config.trusted_proxies = match text {
                text if text.eq_ignore_ascii_case("none") => Vec::new(),
                text => values::entries(text, ENTRIES_MAX, network)?,
            };
            Ok(())
        },
        show: |draft| match draft.config.trusted_proxies.as_slice() {
            [] => "none".to_owned(),
            networks => values::show_list(networks),
        },
    },
    Flag {
        name: "expose-backends",
        env: "RED_TENTACLE_EXPOSE_BACKENDS",
        value: "on|off",
        default: "off",
        help: "Whether clients are told the backends' addresses, in Proxy-Status and in a 502, or only names like b1",
        set: |draft, text| values::switch(text).map(|on| draft.config.expose_backends = on),
        show: |draft| values::show_switch(draft.config.expose_backends),
    },
    Flag {
        name: "workers",
        env: "RED_TENTACLE_WORKERS",
        value: "COUNT",
        default: "2 per core",
        help: "Threads that begin races of many backends; they never wait for one",
        set: |draft, text| {
            values::count(text, 1, WORKERS_MAX, draft.config.workers.get()).map(|count| draft.config.workers = count)
        },
        show: |draft| draft.config.workers.to_string(),
    },
];

/// Shows the number of clients in effect, and the reason for it.
fn show_clients(host: &Host, head_bytes_max: usize, wanted: Option<NonZeroUsize>) -> String {
    let wanted = wanted.map(NonZeroUsize::get);
    let (clients, files) = (host.capacity(head_bytes_max).clients(wanted), host.open_files);
    match wanted {
        None => format!("{clients} (from the limits of open files and memory)"),
        Some(wanted) if wanted > clients => {
            format!("{clients} ({wanted} asked for; the limit of {files} open files leaves room for {clients})")
        }
        Some(_) => clients.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_that_are_shown_are_those_in_effect() {
        let host = Host { memory_bytes: 1 << 30, open_files: 1024 };
        let rows = [
            (None, "209 (from the limits of open files and memory)"),
            (Some(100), "100"),
            (Some(209), "209"),
            (Some(500), "209 (500 asked for; the limit of 1024 open files leaves room for 209)"),
        ];
        for (wanted, expected) in rows {
            assert_eq!(show_clients(&host, 32 << 10, wanted.and_then(NonZeroUsize::new)), expected);
        }
    }
}
