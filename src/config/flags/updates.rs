//! Updates: their addresses and their guard.

use super::flag::{ENTRIES_MAX, Flag};
use crate::config::{AdminToken, Kind, Listen, values};

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "admin-listen",
        env: "RED_TENTACLE_ADMIN_LISTEN",
        value: "ADDRESS,...|off",
        default: "127.0.0.1:8081 and, where IPv6 exists, [::1]:8081",
        help: "Where updates are taken; beyond loopback only with a token or --admin-from",
        set: |draft, text| {
            Listen::parse_list(text, Kind { port: 8081, is_private: true }).map(|all| draft.config.admin_listen = all)
        },
        show: |draft| values::show_listen(&draft.config.admin_listen),
    },
    Flag {
        name: "admin-token-file",
        env: "RED_TENTACLE_ADMIN_TOKEN_FILE",
        value: "FILE",
        default: "",
        help: "Updates need `Authorization: Bearer` with the token in this file, from anywhere; read at the start alone",
        set: |draft, text| {
            draft.config.admin_token = Some(AdminToken::from_file(text).map_err(|reason| values::bad(text, reason))?);
            Ok(())
        },
        show: |draft| draft.config.admin_token.as_ref().map_or("(none)", |_| "(set)").to_owned(),
    },
    Flag {
        name: "admin-host",
        env: "RED_TENTACLE_ADMIN_HOST",
        value: "NAME,...",
        default: "",
        help: "Names besides localhost and IP addresses that updates may have in Host",
        set: |draft, text| {
            values::entries(text, ENTRIES_MAX, values::host_name).map(|names| draft.config.admin_host = names)
        },
        show: |draft| values::show_or_none(values::show_list(&draft.config.admin_host)),
    },
    Flag {
        name: "admin-from",
        env: "RED_TENTACLE_ADMIN_FROM",
        value: "CIDR,...",
        default: "",
        help: "Networks besides loopback that updates may come from: 172.17.0.1,fd00::/8",
        set: |draft, text| {
            values::entries(text, ENTRIES_MAX, values::network).map(|networks| draft.config.admin_from = networks)
        },
        show: |draft| values::show_or_none(values::show_list(&draft.config.admin_from)),
    },
    Flag {
        name: "admin-on-proxy-port",
        env: "RED_TENTACLE_ADMIN_ON_PROXY_PORT",
        value: "on|off",
        default: "on",
        help: "Whether updates are taken at --listen too; off: their paths are forwarded like any other",
        set: |draft, text| values::switch(text).map(|on| draft.config.admin_on_proxy_port = on),
        show: |draft| values::show_switch(draft.config.admin_on_proxy_port),
    },
];
