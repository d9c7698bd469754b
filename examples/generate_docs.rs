//! Writes the man page and the shells' completions from the table of flags: `cargo run --example generate_docs`.
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

/// What it is, in roff.
const DESCRIPTION: &str = r".SH DESCRIPTION
Sends every request to all backends at once and gives the client the first answer that counts as success, 2xx if it isn't told
otherwise. When nobody succeeds, the client gets a 502 that says why, backend by backend.
.PP
A flag beats its environment variable, which beats the default. Durations are written 500ms, 1.5s, 5s, 1m30s, 1h; sizes
512B, 16KiB, 10MiB, 1GiB, or 10M and 10MB for 10MiB; addresses to listen on 127.0.0.1:8080, [::1]:8080, localhost:8080, and
:8080 or 8080 for every address. A bad value stops the start with one line that names it.
";

/// What the flags don't say, in roff.
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
answers 200 and, from the first signal on, 503: it says that the process isn't stopping, and nothing of backends. Everybody may
ask.
.SH "SIGNALS"
.TP
.BR SIGTERM ", " SIGINT
The first finishes what is under way, for at most the grace period; the second ends at once.
.SH "EXIT STATUS"
.TP
.B 0
after a signal, \-\-check, \-\-help, or an errand that succeeded
.TP
.B 1
the host lacks something (an address in use, say), or \-\-health or \-\-update failed
.TP
.B 2
the command line or the environment is wrong, and health isn't asked for; one line names the culprit
.SH "ENVIRONMENT"
Every flag has a variable, which stands beside it above. Under systemd
.BR NOTIFY_SOCKET ", " LISTEN_FDS ", " LISTEN_PID " and " LISTEN_FDNAMES
count as in
.BR sd_notify (3)
and
.BR sd_listen_fds (3):
sockets named
.B proxy
and
.B admin
take the place of \-\-listen and \-\-admin\-listen; without these names the first is the proxy's, the second the admin's.
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut check, mut folder) = (false, Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging"));
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

/// Every file's path, and what is to be in it.
fn files() -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let command = red_tentacle::config::command();
    let mut files = vec![("man/red-tentacle.8".into(), man(&command)?)];
    let names = [(Shell::Bash, "red-tentacle.bash"), (Shell::Zsh, "_red-tentacle"), (Shell::Fish, "red-tentacle.fish")];
    for (shell, name) in names {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone().mut_args(hinted), "red-tentacle", &mut text);
        files.push((Path::new("completions").join(name), text));
    }
    Ok(files)
}

fn man(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    // Where there is no date its place is kept: else the version would stand there, across its neighbours on a narrow screen.
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

/// What a shell may offer as the value: the words between bars that aren't placeholders, a file, or nothing (a URL, say) rather
/// than the files that are about.
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
