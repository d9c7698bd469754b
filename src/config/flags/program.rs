//! The program itself: its end, its log, and its tasks beside serving.

use super::flag::Flag;
use crate::config::{LogFormat, values};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "grace-period",
        env: "RED_TENTACLE_GRACE_PERIOD",
        value: "DURATION",
        default: "10s",
        help: "Longest time that requests in flight may still take after SIGTERM or SIGINT",
        set: |draft, text| values::duration(text).map(|time| draft.config.grace_period = time),
        show: |draft| values::show_duration(draft.config.grace_period),
    },
    Flag {
        name: "log-level",
        env: "RED_TENTACLE_LOG_LEVEL",
        value: "off|error|warn|info|debug|trace",
        default: "info",
        help: "How much is told on standard error; info: a line per request",
        set: |draft, text| {
            draft.config.log_level = text
                .parse()
                .map_err(|_| values::bad(text, "no level; write off, error, warn, info, debug or trace"))?;
            Ok(())
        },
        show: |draft| draft.config.log_level.as_str().to_ascii_lowercase(),
    },
    Flag {
        name: "log-format",
        env: "RED_TENTACLE_LOG_FORMAT",
        value: "text|json",
        default: "text",
        help: "The lines on standard error; json: an object each",
        set: |draft, text| values::either(text, FORMATS).map(|format| draft.config.log_format = format),
        show: |draft| values::show_either(draft.config.log_format, FORMATS),
    },
    Flag {
        name: "check",
        env: "RED_TENTACLE_CHECK",
        value: "",
        default: "",
        help: "Check everything, print the configuration in effect, exit",
        set: |draft, text| values::switch(text).map(|on| draft.check = on),
        show: |draft| values::show_switch(draft.check),
    },
    Flag {
        name: "probe",
        env: "RED_TENTACLE_PROBE",
        value: "",
        default: "",
        help: "With --check: try the addresses, ask each backend once for /, print what each answers; exit with 1 if one doesn't",
        set: |draft, text| values::switch(text).map(|on| draft.probe = on),
        show: |draft| values::show_switch(draft.probe),
    },
    Flag {
        name: "try",
        env: "RED_TENTACLE_TRY",
        value: "PATH",
        default: "",
        help: "Send one GET by this configuration, print the race, exit: 0 won, 1 lost",
        set: |draft, text| values::path(text).map(|path| draft.trial = Some(path)),
        show: |draft| draft.trial.clone().unwrap_or_else(|| "(none)".to_owned()),
    },
    Flag {
        name: "demo",
        env: "RED_TENTACLE_DEMO",
        value: "",
        default: "",
        help: "Race three small backends inside the program: nothing else is needed",
        set: |draft, text| values::switch(text).map(|on| draft.demo = on),
        show: |draft| values::show_switch(draft.demo),
    },
];
