//! The program: reads the command line, starts the log, runs the server, and decides the exit code.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use log::LevelFilter;
use mimalloc::MiMalloc;
use red_tentacle::access_log;
use red_tentacle::admin_client;
use red_tentacle::config::{self, AdminCommand, Config, Invocation};
use red_tentacle::demo::Demo;
use red_tentacle::demo_show;
use red_tentacle::downstream::Timeouts;
use red_tentacle::message::ListEntry;
use red_tentacle::probe;
use red_tentacle::server::{Reloader, Server, StartError, Stopper};
use red_tentacle::systemd::Supervisor;
use red_tentacle::trial;
use red_tentacle::upstream::SystemLookup;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// Chosen by measurement: with 64 MiB of addresses glibc's serves a twentieth of the requests before it gives up.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code for a bad command line or environment.
const EXIT_USAGE: u8 = 2;
/// Exit code for a host that lacks something, a free address, say, and for health that is asked for and isn't there.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    // Where the kernel gives huge pages to all, as Debian's does, each thread would take one: 10 MiB more when idle. A kernel
    // that doesn't know them refuses, and gives none either.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // What is longer than the limit of a file's size fails, and is told; the signal would end the program.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let oddities = config::oddities(std::env::vars_os().map(|(name, _)| name));
    match config::read(std::env::args_os(), std::env::var_os).warning_of(oddities) {
        Invocation::Print(text) => print(&text),
        Invocation::Check { shown, warnings, probe } => {
            for warning in warnings {
                tell(&format!("red-tentacle: {warning}"));
            }
            print(&shown);
            probe.map_or(ExitCode::SUCCESS, |config| try_out(*config))
        }
        // To a container's health command any other code than 0 and 1 means nothing.
        Invocation::Fail(line) if config::asks_health(std::env::args_os(), std::env::var_os) => {
            fail(&line, EXIT_FAILURE)
        }
        Invocation::Fail(line) => fail(&line, EXIT_USAGE),
        Invocation::Ask(command) => ask(&command),
        Invocation::Try(config, target) => try_one(*config, &target),
        Invocation::Run(config) => run(*config, None),
        Invocation::Demo(mut config) => match Demo::start() {
            Ok(demo) => {
                if let Some(line) = Demo::avoid_taken_ports(&mut config) {
                    tell(&format!("red-tentacle: {line}"));
                }
                config.backends = demo.addresses().into_iter().map(ListEntry::from).collect();
                run(*config, Some(demo))
            }
            Err(error) => fail(&format!("red-tentacle: cannot start the demo's backends: {error}"), EXIT_FAILURE),
        },
    }
}

fn try_out(config: Config) -> ExitCode {
    match probe::probe(config) {
        Ok(probed) => {
            print(&format!("\n{}", probed.table));
            if probed.have_all_answered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
        }
        Err(reason) => fail(&format!("red-tentacle: {reason}"), EXIT_FAILURE),
    }
}

fn ask(command: &AdminCommand) -> ExitCode {
    match admin_client::ask(command) {
        Ok(answer) => print(&answer),
        Err(reason) => fail(&format!("red-tentacle: {reason}"), EXIT_FAILURE),
    }
}

/// Races once. Of the log only what is wrong is told, beside the race.
fn try_one(config: Config, target: &str) -> ExitCode {
    let level = if config.log_level == LevelFilter::Info { LevelFilter::Warn } else { config.log_level };
    if let Err(error) = access_log::start(level, config.log_format) {
        return fail(&format!("red-tentacle: cannot start the log: {error}"), EXIT_FAILURE);
    }
    let tried = trial::run(config, target);
    access_log::flush();
    match tried {
        Ok(tried) => {
            print(&tried.text);
            if tried.has_won { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
        }
        Err(reason) => fail(&format!("red-tentacle: {reason}"), EXIT_FAILURE),
    }
}

fn run(config: Config, demo: Option<Demo>) -> ExitCode {
    // Before another thread starts.
    let supervisor = match Supervisor::from_env() {
        Ok(supervisor) => supervisor,
        Err(reason) => return fail(&format!("red-tentacle: {reason}"), EXIT_USAGE),
    };
    if let Err(error) = access_log::start(config.log_level, config.log_format) {
        return fail(&format!("red-tentacle: cannot start the log: {error}"), EXIT_FAILURE);
    }
    let served = serve(config, supervisor, demo);
    access_log::flush();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_setting = matches!(error.downcast_ref(), Some(StartError::Setting(_)));
            fail(&format!("red-tentacle: {error}"), if is_setting { EXIT_USAGE } else { EXIT_FAILURE })
        }
    }
}

fn serve(config: Config, supervisor: Supervisor, demo: Option<Demo>) -> Result<(), Box<dyn std::error::Error>> {
    let demo = demo.map(|demo| (demo, config.clone()));
    let no_thread = |error: std::io::Error| StartError::no_thread(&error);
    // A terminal that is closed ends what runs in it, unless SIGHUP has another use.
    let name_files = config.backends.iter().any(|entry| entry.options.local.names_file());
    let is_reread = config.backends_file.is_some() || name_files || !config.tls.certificates.is_empty();
    let takes_hangup = is_reread || !std::io::stderr().is_terminal();
    // From now on a signal waits until there is something to stop: no file of a socket is left behind.
    let signals = Signals::new([SIGTERM, SIGINT])?;
    if takes_hangup {
        signals.add_signal(SIGHUP)?;
    }
    let server = Server::bind_supervised(config, Arc::new(SystemLookup), supervisor, Timeouts::DEFAULT)?;
    obey(signals, server.stopper(), server.reloader()).map_err(no_thread)?;
    if let Some((demo, config)) = demo {
        let proxy = server.local_addr().ok_or("--demo invites to an address; hand over a TCP socket for clients")?;
        let invitation = demo.invitation(&config, proxy, server.admin_addr());
        present(demo, invitation, proxy, &server).map_err(no_thread)?;
    }
    Ok(server.run().map_err(no_thread)?)
}

/// Invites to try the demo; in a terminal after a show, which runs beside the server.
fn present(demo: Demo, invitation: String, proxy: SocketAddr, server: &Server) -> std::io::Result<()> {
    if !std::io::stdout().is_terminal() {
        print(&invitation);
        return Ok(());
    }
    let meter = server.meter();
    // Lines of the log would be in the middle of the pictures.
    let level = log::max_level();
    log::set_max_level(level.min(LevelFilter::Warn));
    let show = move || {
        let shown = demo_show::run(&demo, proxy, &meter, &mut std::io::stdout());
        log::set_max_level(level);
        // Else it was stopped.
        if shown.is_ok() {
            print(&invitation);
        }
    };
    thread::Builder::new().name("show".into()).spawn(show)?;
    Ok(())
}

/// Drains on the first signal to end, exits at once on the second, and reads the list again on SIGHUP.
fn obey(mut signals: Signals, stopper: Stopper, reloader: Reloader) -> std::io::Result<()> {
    let watch = move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => reloader.reload_beside(),
                _ if is_stopping => {
                    stopper.remove_socket_files();
                    std::process::exit(EXIT_FAILURE.into());
                }
                _ => {
                    is_stopping = true;
                    stopper.stop();
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}

fn print(text: &str) -> ExitCode {
    // A failure means that standard output is closed: its reader has enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(line: &str, code: u8) -> ExitCode {
    tell(line);
    ExitCode::from(code)
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
