//! Writes the man page, the shells' completions and docs/flags.md from the table of flags: `cargo run --example generate_docs`.
//! With `--check` it writes nothing, and fails where a file isn't what it would write. Nothing of it is in the program.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

/// The part of the manual that the page belongs to.
const MANUAL: &str = "System administration";

/// The description of the program, in roff.
const DESCRIPTION: &str = r".SH DESCRIPTION
Sends every request to all backends at once and gives the client the first answer that counts as success, 2xx if it isn't told
otherwise. When no backend succeeds, the client gets a 502 that says why, backend by backend.
.PP
A flag beats its environment variable, which beats the default. Durations are written 500ms, 1.5s, 5s, 1m30s, 1h; sizes
512B, 16KiB, 10MiB, 1GiB, or 10M and 10MB for 10MiB; addresses to listen on 127.0.0.1:8080, [::1]:8080, localhost:8080,
unix:/run/x.sock, and :8080 or 8080 for every address. A bad value stops the start with a line that names it.
";

/// Facts beyond the flags, in roff.
const MORE: &str = r#".SH "THE LIST AT RUNTIME"
A POST to the admin port replaces the list; races in flight finish with the one they began with:
.PP
.nf
red\-tentacle \-\-update http://new1.example,http://new2.example
curl \-\-fail\-with\-body \-d backends=http://new1.example,http://new2.example http://localhost:8081/\-update\-backends
.fi
.SH "HEALTH"
On the admin port
.B /healthz
answers 200 while the process lives, and
.B /readyz
answers 200 and, from the first signal on, 503: it says that the process isn't stopping, and nothing of backends. No token
is needed.
.SH "SIGNALS"
.TP
.BR SIGTERM ", " SIGINT
The first finishes what is under way, for at most the grace period; the second ends at once.
.TP
.B SIGHUP
Reads again the file of \-\-backends\-file and the files that backends name (those of \-\-backends, too), all or nothing, and then
the certificates for clients in the same way. Without \-\-backends\-file and \-\-tls\-cert it ends a program that runs in a terminal.
.SH "EXIT STATUS"
.TP
.B 0
after a signal, \-\-check, \-\-help, a \-\-health or \-\-update that succeeded, a \-\-try that was won, or a
\-\-check \-\-probe that all backends answered
.TP
.B 1
the host lacks something (an address in use, say), \-\-health or \-\-update failed, a \-\-try wasn't won, a backend didn't answer
\-\-check \-\-probe, or after a second signal
.TP
.B 2
the command line, the environment or a socket that is handed over is wrong, and health isn't asked for; a line names the culprit
.SH "ENVIRONMENT"
Every flag has a variable, which stands beside it above. Under systemd
.BR NOTIFY_SOCKET ", " LISTEN_FDS ", " LISTEN_PID " and " LISTEN_FDNAMES
count as in
.BR sd_notify (3)
and
.BR sd_listen_fds (3):
sockets named
.BR proxy ", " tls " and " admin
take the place of \-\-listen, \-\-tls\-listen and \-\-admin\-listen; without these names the first is the proxy's, the second the admin's.
.SH "FILES"
.TP
.I /etc/default/red\-tentacle
variables for red\-tentacle.service
.SH "EXAMPLES"
.nf
BACKEND_SERVERS=http://dc1.example:8000,https://dc2.example/base red\-tentacle
red\-tentacle \-\-demo
red\-tentacle \-\-health
.fi
.SH "SEE ALSO"
.BR systemd.exec (5),
.BR systemd.socket (5)
"#;

/// The begin of docs/flags.md.
const FLAGS: &str = "\
<!-- Written by `cargo run --example generate_docs`: change the table of flags in src/config/flags, or that example. -->

# Flags

A flag beats its environment variable, which beats the default. A bad value stops the start with exit code 2 and a line that names it;
`--check` shows what each value becomes. `--help` prints this page in short, and `packaging/man` has it as a man page.

- Durations are written `500ms`, `1.5s`, `5s`, `1m30s`, `1h`; they are exact to the millisecond, and at most a day.
- Sizes are written `512B`, `16KiB`, `10MiB`, `1GiB`. All units are powers of 1024, in either case: `10M`, `10MB` and `10m` are `10MiB`.
- Addresses to listen on are written `127.0.0.1:8080` or `[::1]:8080`; `:8080`, `*:8080` and `8080` are every address of this host,
  `localhost:8080` its loopback addresses, both for IPv4 and, where it exists, IPv6. There are no other names.
  `unix:/run/x.sock` is a [Unix socket](operations.md#unix-sockets).
";

/// The end of docs/flags.md.
const EXIT_CODES: &str = "
## Exit codes

- 0 after SIGTERM, SIGINT, `--check` and `--help`, after `--health` and `--update` that succeed, after a `--try` that is won, and after a
  `--check --probe` that all backends answer.
- 1 if the host lacks something (an address in use, say), `--health` or `--update` fail, a `--try` isn't won, or a backend doesn't answer
  `--check --probe`, or after a second signal. The first signal finishes what is under way, the second ends at once.
- 2 if the command line, the environment or a socket that is handed over is wrong, but 1 with `--health`, since Docker reserves 2 there.
";

/// Facts about a flag beyond its help, in Markdown.
const BEYOND_HELP: &[(&str, &str)] = &[
    ("backends", "Not needed with `--demo`; updates replace them ([operations](operations.md#updates))."),
    ("success", "[Which answers win](races.md#which-answers-win) has the rest."),
    ("linger", "`0s` hangs up on them when the verdict falls, which costs a connection and a handshake each."),
    ("linger-unsafe", "[What that means for POST](races.md#what-that-means-for-post)."),
    (
        "timeout",
        "The second begins with the last byte of the request: a long poll needs one that is longer than it takes.",
    ),
    ("host", "`preserve` sends the client's own."),
    ("via", "Clients get it in any case."),
    ("max-idle-connections", "Each is kept for at most 4 s."),
    (
        "ca-file",
        "A backend's own certificate that is marked as an authority (`CA:TRUE`) is refused all the same: issue one from it \
         ([TLS](security.md#when-tls-fails)).",
    ),
    ("max-head", "At `256KiB` 10,000 such clients hold 2.5 GiB."),
    ("spool-dir", "Tried at the start; `507` when it is full."),
    (
        "max-connections",
        "If none can be closed, new ones wait ([when there are too many](capacity.md#when-there-are-too-many-clients)).",
    ),
    ("trusted-proxies", "`none` believes no proxy ([what counts](security.md#proxies-before-this-one))."),
    ("workers", "Many are more than 8."),
    ("admin-listen", "`off` for nowhere."),
    ("admin-token-file", "[Who may update](security.md#who-may-update) has the rules."),
    ("admin-on-proxy-port", "`off` behind nginx or HAProxy on the same host ([why](security.md#who-may-update))."),
    ("grace-period", "[Stopping](operations.md#stopping)."),
    ("log-level", "[Logs](operations.md#logs)."),
    (
        "health",
        "Without a URL (in the variable: `on`; `off` or nothing asks nothing) `/readyz` at `--admin-listen` is asked or, if that is \
         `off`, whether `--listen` accepts connections.",
    ),
    ("update", "With 0 once that proxy has said that it took the list, else with 1."),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut check, mut folder) = (false, PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            _ => folder = argument.into(),
        }
    }
    let mut stale = Vec::new();
    for (path, text) in files()? {
        let path = folder.join(path);
        if check && fs::read(&path).ok().as_ref() != Some(&text) {
            stale.push(path.display().to_string());
        } else if !check {
            fs::create_dir_all(path.parent().expect("a folder"))?;
            fs::write(&path, text)?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("not what the flags say; run `cargo run --example generate_docs`: {}", stale.join(", ")).into())
}

/// The path of every file, from the root of the repository, and the text that is to be in it.
fn files() -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let command = red_tentacle::config::command();
    let mut files = vec![
        ("packaging/man/red-tentacle.8".into(), man(&command)?),
        ("docs/flags.md".into(), flags(&command).into_bytes()),
    ];
    let names = [(Shell::Bash, "red-tentacle.bash"), (Shell::Zsh, "_red-tentacle"), (Shell::Fish, "red-tentacle.fish")];
    for (shell, name) in names {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone().mut_args(hinted), "red-tentacle", &mut text);
        files.push((Path::new("packaging/completions").join(name), text));
    }
    Ok(files)
}

fn man(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    // Where there is no date its place is kept: else the version would stand there, across its neighbours on a narrow
    // screen.
    writeln!(text, ".TH red\\-tentacle 8 \"\" \"red-tentacle {}\" \"{MANUAL}\"", env!("CARGO_PKG_VERSION"))?;
    // No hyphens in what is to be copied: RED_TENTA-CLE_CA_FILE.
    text.extend_from_slice(b".nh\n");
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    text.extend_from_slice(DESCRIPTION.as_bytes());
    man.render_options_section(&mut text)?;
    text.extend_from_slice(MORE.as_bytes());
    Ok(text)
}

/// All flags in Markdown, a table for each heading of the help.
fn flags(command: &Command) -> String {
    let mut text = FLAGS.to_owned();
    let mut heading = None;
    for arg in command.get_arguments() {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            text += "\n## ";
            text += heading.unwrap_or("Others");
            text += "\n\n| flag | variable | value | default | meaning |\n|---|---|---|---|---|\n";
        }
        text += &row(arg);
    }
    text + EXIT_CODES
}

/// A flag's row. The second line of its help is `[default: …] [env: …]`.
fn row(arg: &Arg) -> String {
    let (name, help) = (arg.get_long().expect("a flag"), arg.get_help().expect("help").to_string());
    let (meaning, notes) = help.split_once('\n').expect("two lines of help");
    let (default, variable) = notes.rsplit_once("[env: ").expect("a variable");
    let variable = variable.trim_end_matches(']');
    let default = default.trim().strip_prefix("[default: ").and_then(|text| text.strip_suffix(']')).unwrap_or_default();
    let default = if default.contains(' ') { default.to_owned() } else { words(default) };
    let value = arg.get_value_names().and_then(<[_]>::first).map(|value| words(value)).unwrap_or_default();
    let more = BEYOND_HELP.iter().find(|(flag, _)| *flag == name).map(|(_, more)| format!(". {more}"));
    let more = more.unwrap_or_default();
    format!("| `--{name}` | `{variable}` | {value} | {default} | {meaning}{more} |\n")
}

/// Words between bars as code, each by itself: a bar would end the cell.
fn words(text: &str) -> String {
    let words: Vec<String> = text.split('|').filter(|word| !word.is_empty()).map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// Adds what a shell may offer as the value: the words between bars that aren't placeholders, a file, or nothing (a
/// URL, say) rather than the files in the directory.
fn hinted(arg: Arg) -> Arg {
    let value = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    // Clap keeps texts for ever, and this program ends in a moment.
    match &*value.leak() {
        "" => arg,
        "FILE" => arg.value_hint(ValueHint::FilePath),
        "DIR" => arg.value_hint(ValueHint::DirPath),
        words if words.contains('|') => {
            let is_placeholder = |word: &str| word.contains(|c: char| c == '.' || c.is_uppercase());
            arg.value_parser(PossibleValuesParser::new(words.split('|').filter(|word| !is_placeholder(word))))
        }
        _ => arg.value_hint(ValueHint::Other),
    }
}
