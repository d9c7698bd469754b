//! Connections to backends: time limits, names, TLS, and the fields that name this proxy.

use std::time::Duration;

use super::flag::Flag;
use crate::config::{HostHeader, values};
use crate::net::pem;

/// The most idle connections for each backend: beyond that a backend would run out of descriptors before we do.
const IDLE_CONNECTIONS_MAX: usize = 1024;

const HOSTS: [(&str, HostHeader); 2] = [("backend", HostHeader::Backend), ("preserve", HostHeader::Preserve)];

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "timeout",
        env: "RED_TENTACLE_TIMEOUT",
        value: "DURATION",
        default: "5s",
        help: "Longest time to reach a backend, and again to get its complete head",
        set: |draft, text| {
            draft.config.timeout = values::duration(text)?;
            match draft.config.timeout {
                Duration::ZERO => Err(values::bad(text, "no answer can come in no time; write 5s, say")),
                _ => Ok(()),
            }
        },
        show: |draft| values::show_duration(draft.config.timeout),
    },
    Flag {
        name: "idle-timeout",
        env: "RED_TENTACLE_IDLE_TIMEOUT",
        value: "DURATION",
        default: "60s, or --timeout if that is longer",
        help: "Longest silence while a body moves, either way",
        set: |draft, text| values::duration(text).map(|time| draft.idle_timeout = Some(time)),
        show: |draft| values::show_duration(draft.config.idle_timeout),
    },
    Flag {
        name: "host",
        env: "RED_TENTACLE_HOST",
        value: "backend|preserve",
        default: "backend",
        help: "Whose name the backends see in Host: their own, or the one that the client wrote",
        set: |draft, text| values::either(text, HOSTS).map(|host| draft.config.host = host),
        show: |draft| values::show_either(draft.config.host, HOSTS),
    },
    Flag {
        name: "via",
        env: "RED_TENTACLE_VIA",
        value: "on|off",
        default: "off",
        help: "Whether backends get Via; nginx, by default, compresses nothing for those who send it",
        set: |draft, text| values::switch(text).map(|on| draft.config.via = on),
        show: |draft| values::show_switch(draft.config.via),
    },
    Flag {
        name: "max-idle-connections",
        env: "RED_TENTACLE_MAX_IDLE_CONNECTIONS",
        value: "COUNT",
        default: "512",
        help: "Idle connections kept for each backend, and 64 at most once half of all connections are taken; 0 keeps none",
        set: |draft, text| {
            values::number(text, 0, IDLE_CONNECTIONS_MAX, draft.config.max_idle_connections)
                .map(|count| draft.config.max_idle_connections = count)
        },
        show: |draft| draft.config.max_idle_connections.to_string(),
    },
    Flag {
        name: "dns-ttl",
        env: "RED_TENTACLE_DNS_TTL",
        value: "DURATION",
        default: "30s",
        help: "How long a name's addresses count; they are looked up anew before that",
        set: |draft, text| values::duration(text).map(|time| draft.config.dns_ttl = time),
        show: |draft| values::show_duration(draft.config.dns_ttl),
    },
    Flag {
        name: "ca-file",
        env: "RED_TENTACLE_CA_FILE",
        value: "FILE",
        default: "",
        help: "More certificates to trust beside the usual roots, in PEM; read at the start alone",
        set: |draft, text| {
            let certificates = pem::read(text).and_then(|bytes| values::certificates(&bytes));
            draft.config.ca_certificates = certificates.map_err(|reason| values::bad(text, reason))?;
            draft.config.ca_file = Some(text.to_owned());
            Ok(())
        },
        show: |draft| match draft.config.ca_certificates.len() {
            0 => "(none)".to_owned(),
            1 => "(1 certificate)".to_owned(),
            count => format!("({count} certificates)"),
        },
    },
];
