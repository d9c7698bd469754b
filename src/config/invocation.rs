//! The tasks that a command line may set.

use std::fmt::Display;

use super::admin_command::AdminCommand;
use super::settings::Config;

/// The task that the command line sets.
#[derive(Debug)]
pub enum Invocation {
    /// Serve.
    Run(Box<Config>),
    /// Serve with the demo's backends; the configuration holds none.
    Demo(Box<Config>),
    /// Race one GET for this target, print the race, and exit with 0 if a backend has won, else with 1.
    Try(Box<Config>, String),
    /// Ask another process, and exit.
    Ask(Box<AdminCommand>),
    /// Print the configuration in effect to standard output, and what the start would warn of to standard error, and exit
    /// with 0.
    Check {
        /// A line per flag.
        shown: String,
        /// A line each, without its end.
        warnings: Vec<String>,
        /// The configuration, if what it names is to be tried as well.
        probe: Option<Box<Config>>,
    },
    /// Print this to standard output as it is, its last line end included, and exit with 0.
    Print(String),
    /// Print these lines to standard error and exit with 2, or with 1 if health is asked for ([`super::asks_health`]).
    Fail(String),
}

impl Invocation {
    /// Adds what is odd about the environment to what a start warns of, or says before it fails.
    #[must_use]
    pub fn warning_of(mut self, oddities: Vec<String>) -> Invocation {
        match &mut self {
            Invocation::Run(config) | Invocation::Demo(config) | Invocation::Try(config, _) => {
                config.oddities.extend(oddities);
            }
            Invocation::Check { warnings, .. } => warnings.extend(oddities),
            // One that was misspelt may be what is missing.
            Invocation::Fail(lines) => {
                for oddity in oddities.iter().rev() {
                    lines.insert_str(0, &format!("red-tentacle: {oddity}\n"));
                }
            }
            Invocation::Ask(_) | Invocation::Print(_) => {}
        }
        self
    }
}

/// Makes the one line that ends the program.
pub(super) fn fail(what: impl Display) -> Invocation {
    Invocation::Fail(format!("red-tentacle: {what}"))
}
