//! Commands to a proxy that runs already. With one of them, the program isn't a proxy itself.

use super::flag::Flag;
use crate::config::admin_command::{self, AdminCommand};
use crate::config::draft::{Health, Update};
use crate::config::values;

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "health",
        env: "RED_TENTACLE_HEALTH",
        value: "[URL]",
        default: "",
        help: "Ask this URL (or unix:PATH), or else what listens at --admin-listen, and exit: with 0 if the answer is a 2xx within 3 s, else \
               with 1",
        set: |draft, text| {
            draft.health = match values::switch(text) {
                Ok(true) => Some(Health::Own),
                Ok(false) => None,
                // A variable that is set to nothing asks for nothing; the flag is refused if it is empty.
                Err(_) if text.is_empty() => None,
                Err(_) => Some(Health::At(values::asked_at(text)?)),
            };
            Ok(())
        },
        show: |draft| match draft.health.as_ref().map(|health| health.command(&draft.config)) {
            Some(Ok(AdminCommand::Health(url))) => url.to_string(),
            Some(Ok(AdminCommand::Reach(listen))) => listen.reached(),
            _ => "(none)".to_owned(),
        },
    },
    Flag {
        name: "update",
        env: "RED_TENTACLE_UPDATE",
        value: "URL,...|CHANGE",
        default: "",
        help: "Replace the backends of a running proxy by these and exit, or change them: add=URL, remove=NAME, pause=NAME, \
               resume=NAME, all or none of several with & between them; --admin-token-file goes with it",
        set: |draft, text| Update::parse(text).map(|update| draft.update = Some(update)),
        show: |draft| draft.update.as_ref().map_or("(none)".to_owned(), Update::to_string),
    },
    Flag {
        name: "admin",
        env: "RED_TENTACLE_ADMIN",
        value: "URL",
        default: "the address of --admin-listen, or of --listen if that is off",
        help: "Where the running proxy takes updates; or unix:PATH",
        set: |draft, text| values::asked_at(text).map(|place| draft.admin = Some(place)),
        show: |draft| {
            let admin = draft.admin.clone().or_else(|| admin_command::own_admin(&draft.config).ok());
            admin.map_or("(none)".to_owned(), |admin| admin.to_string())
        },
    },
];
