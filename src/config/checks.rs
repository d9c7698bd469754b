//! Rules between flags, and between a flag and this host. Knows nothing of what a flag's text means.

use super::command::Given;
use super::draft::Draft;
use super::invocation::{Invocation, fail};
use super::settings::Config;
use super::values;
use crate::message::Excerpt;

/// Refuses flags that go with no command, or with no other one.
pub(super) fn admin_commands(given: &Given, draft: &Draft) -> Result<(), Invocation> {
    if given.by_flag("health") && draft.health.is_none() {
        // A probe whose URL turned out empty must not become a proxy.
        return Err(fail("--health asks nothing without a URL or on; leave it out, or write it alone"));
    }
    let command = ["health", "update"].into_iter().find(|name| given.by_flag(name));
    let other = ["demo", "update"].into_iter().find(|name| given.by_flag(name) && Some(*name) != command);
    if let (Some(command), Some(other)) = (command, other) {
        return Err(fail(format_args!("--{command} goes with no --{other}; leave one out")));
    }
    if given.by_flag("admin") && !given.has("update") {
        return Err(fail("--admin says where --update goes; give that too"));
    }
    Ok(())
}

pub(super) fn backends(draft: &mut Draft, given: &Given) -> Result<(), Invocation> {
    if draft.demo && given.by_flag("backends") {
        return Err(fail("--backends goes with no --demo, which brings its own; leave one out"));
    }
    if draft.demo {
        // The list of the environment is for the real thing; a user who tries the demo there needn't unset it.
        draft.config.backends.clear();
        return Ok(());
    }
    if draft.config.backends.is_empty() {
        return Err(fail("no backends; set BACKEND_SERVERS=http://a,http://b or give --backends"));
    }
    Ok(())
}

pub(super) fn timeouts(draft: &mut Draft, given: &Given) -> Result<(), Invocation> {
    let timeout = draft.config.timeout;
    draft.config.linger_unsafe = draft.linger_unsafe.unwrap_or(timeout);
    draft.config.idle_timeout = draft.idle_timeout.unwrap_or(draft.config.idle_timeout.max(timeout));
    // Waiting for the head is a silence, too: a shorter idle timeout would end it early.
    if draft.config.idle_timeout < timeout {
        let idle_timeout = values::show_duration(draft.config.idle_timeout);
        let timeout = values::show_duration(timeout);
        return Err(fail(format_args!(
            "{} '{idle_timeout}': shorter than --timeout; write at least {timeout}",
            given.culprit("idle-timeout")
        )));
    }
    Ok(())
}

pub(super) fn spool_dir(config: &Config, given: &Given) -> Result<(), Invocation> {
    let (culprit, dir) = (given.culprit("spool-dir"), config.spool_dir.to_string_lossy());
    if !config.spool_dir.is_dir() {
        return Err(fail(format_args!("{culprit} '{}': no such directory; name one that exists", Excerpt(&dir))));
    }
    // Made as a body's file is: else the first long body would be the first to fail.
    match tempfile::tempfile_in(&config.spool_dir) {
        Ok(_) => Ok(()),
        Err(error) => Err(fail(format_args!(
            "{culprit} '{}': nothing can be written there ({}); name a directory that takes files",
            Excerpt(&dir),
            error.kind()
        ))),
    }
}

pub(super) fn admin(config: &Config, given: &Given) -> Result<(), Invocation> {
    let open = config.admin_listen.iter().find(|listen| !listen.is_loopback());
    let Some(listen) = open.filter(|_| config.admin_token.is_none() && config.admin_from.is_empty()) else {
        return Ok(());
    };
    let address = listen.address;
    // A bare port, most likely, of which loopback alone was meant.
    let narrower =
        if address.ip().is_unspecified() { format!("write localhost:{}, or ", address.port()) } else { String::new() };
    Err(fail(format_args!(
        "{} '{address}': others than this host can reach it; {narrower}give --admin-token-file FILE or --admin-from CIDR too",
        given.culprit("admin-listen")
    )))
}

pub(super) fn overlap(config: &Config, given: &Given) -> Result<(), Invocation> {
    let overlap =
        config.admin_listen.iter().find_map(|admin| Some((admin.address, admin.overlapping(&config.listen)?)));
    let Some((admin, listen)) = overlap else { return Ok(()) };
    // A default isn't to blame if the other one was given.
    let (blamed, address, other, its_address) = if given.has("listen") && !given.has("admin-listen") {
        ("listen", listen, "admin-listen", admin)
    } else {
        ("admin-listen", admin, "listen", listen)
    };
    let culprit = given.culprit(blamed);
    Err(fail(format_args!("{culprit} '{address}': overlaps {its_address} of --{other}; give one of them another port")))
}
