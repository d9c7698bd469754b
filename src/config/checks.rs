//! Rules between flags, and between a flag and this host. Knows nothing of what a flag's text means.

use std::time::SystemTime;

use super::command::Given;
use super::draft::Draft;
use super::invocation::{Invocation, fail};
use super::listen::Listen;
use super::settings::Config;
use super::values;
use crate::list::{BadFiles, ListFile, check_starts, load_files};
use crate::message::{Excerpt, shown_path};

/// Refuses flags that go with no command, or with no other one.
pub(super) fn admin_commands(given: &Given, draft: &Draft) -> Result<(), Invocation> {
    if given.by_flag("health") && draft.health.is_none() {
        // A probe whose URL turned out empty must not become a proxy.
        return Err(fail("--health asks nothing without a URL or on; leave it out, or write it alone"));
    }
    let command = ["health", "update"].into_iter().find(|name| given.by_flag(name));
    let other = ["demo", "try", "update"].into_iter().find(|name| given.by_flag(name) && Some(*name) != command);
    if let (Some(command), Some(other)) = (command, other) {
        return Err(fail(format_args!("--{command} goes with no --{other}; leave one out")));
    }
    if given.by_flag("probe") && !draft.check {
        return Err(fail("--probe goes with --check; give that too"));
    }
    // Also by variables: the demo's backends aren't there yet, and a race has a backend.
    if draft.check && draft.probe && draft.demo {
        return Err(fail("--probe goes with no --demo, which brings its own backends; leave one out"));
    }
    if draft.trial.is_some() && draft.demo {
        return Err(fail("--try goes with no --demo, which shows its own races; leave one out"));
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
    if draft.demo && given.by_flag("backends-file") {
        return Err(fail("--backends-file goes with no --demo, which brings its own backends; leave one out"));
    }
    if draft.demo {
        // The list of the environment is for the real thing; a user who tries the demo there needn't unset it.
        draft.config.backends.clear();
        if !given.has("listen") {
            // It is for who sits at this host.
            draft.config.listen = Listen::loopback(8080);
        } else if !draft.config.listen.iter().any(|listen| listen.tcp_address().is_some()) {
            return Err(fail(format_args!(
                "{}: --demo shows its races over a TCP port; write localhost:8080, say",
                given.culprit("listen")
            )));
        }
        return Ok(());
    }
    backends_file(draft, given)?;
    let backends = &draft.config.backends;
    if let Err(bad) = load_files(backends) {
        let file = draft.config.backends_file.as_ref().filter(|file| file.exists());
        let culprit = given.culprit(if file.is_some() { "backends-file" } else { "backends" });
        let lines = file.map_or_else(|| bad.iter().map(BadFiles::to_string).collect(), |file| file.located(&bad));
        return Err(fail_each(&culprit, &lines));
    }
    if backends.is_empty() {
        let or_file = if draft.backends_file.is_some() { ", for there is no --backends-file yet" } else { "" };
        return Err(fail(format_args!(
            "no backends; set BACKEND_SERVERS=http://a,http://b or give --backends{or_file}"
        )));
    }
    if backends.iter().all(|entry| entry.options.is_paused) {
        let list = Excerpt(&values::show_list(backends)).to_string();
        return Err(fail(format_args!(
            "{} '{list}': every backend is paused; leave one racing",
            given.culprit("backends")
        )));
    }
    check_starts(backends, draft.config.timeout)
        .map_err(|bad| fail(format_args!("{} {bad}", given.culprit("backends"))))
}

fn fail_each(culprit: &str, lines: &[String]) -> Invocation {
    fail(lines.iter().map(|line| format!("{culprit} {line}")).collect::<Vec<_>>().join("\nred-tentacle: "))
}

/// Reads the file that the list is kept in: if there is one, it is the list.
fn backends_file(draft: &mut Draft, given: &Given) -> Result<(), Invocation> {
    let Some(path) = &draft.backends_file else { return Ok(()) };
    let (file, entries) = ListFile::open(path, draft.config.timeout)
        .map_err(|lines| fail_each(&given.culprit("backends-file"), &lines))?;
    if let Some(entries) = entries {
        let config = &mut draft.config;
        if given.has("backends") && config.backends != entries {
            let (culprit, path) = (given.culprit("backends"), shown_path(path));
            config.oddities.push(format!("{culprit} and {path} differ; the list is what the file says"));
        }
        config.backends = entries;
    }
    draft.config.backends_file = Some(file);
    Ok(())
}

/// Refuses a backend at which the proxy itself would listen: every request would come back.
pub(super) fn own_address(config: &Config, given: &Given) -> Result<(), Invocation> {
    let is_kept = config.backends_file.as_ref().is_some_and(ListFile::exists);
    let culprit = given.culprit(if is_kept { "backends-file" } else { "backends" });
    config.check_not_own(&config.backends).map_err(|bad| fail(format_args!("{culprit} {bad}")))
}

/// Refuses statuses that would win a race and end it as a failure, too.
pub(super) fn statuses(config: &Config, given: &Given) -> Result<(), Invocation> {
    let Some(shared) = config.definitive.shared_with(&config.success) else { return Ok(()) };
    Err(fail(format_args!(
        "{} '{}': {shared} is a success already (--success); leave it out of one of them",
        given.culprit("final"),
        config.definitive
    )))
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

/// Refuses addresses at which no client could connect, and files that HTTPS can't be made of, and gives what the start will warn of
/// in these. Sockets that are handed over may be for HTTPS, too.
pub(super) fn tls(config: &Config, given: &Given, are_addresses_used: bool) -> Result<Vec<String>, Invocation> {
    let (has_certificate, is_used) = (!config.tls.certificates.is_empty(), !config.tls_listen.is_empty());
    if are_addresses_used && config.listen.is_empty() && !is_used {
        return Err(fail(format_args!(
            "{} is off, and --tls-listen too: no client could connect; give one of them an address",
            given.culprit("listen")
        )));
    }
    if is_used && !has_certificate {
        return Err(fail(format_args!(
            "{} needs a certificate; give --tls-cert FILE or --tls-cert CHAIN,KEY",
            given.culprit("tls-listen")
        )));
    }
    if are_addresses_used && has_certificate && !is_used {
        return Err(fail(format_args!("{} is for --tls-listen; give that too", given.culprit("tls-cert"))));
    }
    if config.tls.client_ca.is_some() && !has_certificate {
        return Err(fail(format_args!("{} is for --tls-listen; give that too", given.culprit("tls-client-ca"))));
    }
    if config.tls.tells_subject && config.tls.client_ca.is_none() {
        return Err(fail(format_args!(
            "{} needs certificates of clients; give --tls-client-ca FILE",
            given.culprit("tls-client-cert-header")
        )));
    }
    if !has_certificate {
        return Ok(Vec::new());
    }
    let blamed = |reason: &str| match &config.tls.client_ca {
        Some(path) if reason.starts_with(&format!("{}: ", shown_path(path))) => "tls-client-ca",
        _ => "tls-cert",
    };
    let served = config.tls.check();
    let served = served.map_err(|reason| fail(format_args!("{} {reason}", given.culprit(blamed(&reason)))))?;
    let now = SystemTime::now();
    Ok(served.into_iter().flat_map(|one| one.warnings(now)).collect())
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
    let open = open.filter(|_| config.admin_token.is_none() && config.admin_from.is_empty());
    let Some(address) = open.and_then(Listen::tcp_address) else { return Ok(()) };
    // A bare port, most likely, of which loopback alone was meant.
    let narrower =
        if address.ip().is_unspecified() { format!("write localhost:{}, or ", address.port()) } else { String::new() };
    Err(fail(format_args!(
        "{} '{address}': others than this host can reach it; {narrower}give --admin-token-file FILE or --admin-from CIDR too",
        given.culprit("admin-listen")
    )))
}

pub(super) fn overlap(config: &Config, given: &Given) -> Result<(), Invocation> {
    let [proxy, tls, admin] = config.ports();
    for ((first, listen), (second, others)) in [(proxy, admin), (proxy, tls), (tls, admin)] {
        let overlap = |other: &Listen| Some((other.place(), other.overlapping(listen)?.place()));
        let Some((other, listen)) = others.iter().find_map(overlap) else { continue };
        // A default isn't to blame if the other one was given.
        let (blamed, address, other, its_address) = if given.has(first) && !given.has(second) {
            (first, listen, second, other)
        } else {
            (second, other, first, listen)
        };
        let culprit = given.culprit(blamed);
        return Err(fail(format_args!(
            "{culprit} '{address}': overlaps {its_address} of --{other}; give one of them another port"
        )));
    }
    Ok(())
}
