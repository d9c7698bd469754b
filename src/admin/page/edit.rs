//! The forms by which the page changes the list: they work without scripts, and come back with what was typed. Knows nothing of
//! what a change means.

use super::facts::Facts;
use super::html::{Escaped, Html};
use crate::list::mark_of;
use crate::message::Refusal;
use crate::metrics::BackendState;

/// The query of a page that doesn't load anew by itself: without scripts a text that is being typed would be lost.
pub(crate) const STILL: &str = "still";
/// The lines of the list's field: more than these are scrolled.
const LINES_MIN: usize = 3;
const LINES_MAX: usize = 24;

/// What the page's forms need to know.
pub(crate) struct Form<'a> {
    /// The secret that a form carries.
    pub(crate) token: &'a str,
    /// The change that was refused, if this is the reply to it.
    pub(crate) attempt: Option<Attempt<'a>>,
    /// Whether the page is asked not to load anew.
    pub(crate) is_still: bool,
}

/// A change that was refused.
pub(crate) struct Attempt<'a> {
    pub(crate) refusal: &'a Refusal,
    /// What was sent.
    pub(crate) fields: Vec<(String, String)>,
}

impl Form<'_> {
    /// Whether the page stays as it is: something in it may be in the middle of being typed.
    pub(super) fn is_held(&self) -> bool {
        self.is_still || self.attempt.is_some()
    }

    /// Whether the list can be changed from here.
    pub(super) fn is_shown(&self, facts: &Facts) -> bool {
        self.attempt.is_some() || facts.not_kept.is_none()
    }

    /// The mark of the list that was seen before a list was typed: that of the list in force only once its change has been told.
    fn seen(&self, facts: &Facts) -> String {
        let is_told = self.attempt.as_ref().is_some_and(|attempt| matches!(attempt.refusal, Refusal::Conflict(_)));
        self.typed("seen").filter(|_| !is_told).unwrap_or_else(|| mark_of(&facts.list))
    }

    /// What was typed into a field, as a browser would show it again.
    fn typed(&self, field: &str) -> Option<String> {
        let (_, text) = self.attempt.as_ref()?.fields.iter().find(|(name, _)| name == field)?;
        Some(text.replace("\r\n", "\n"))
    }
}

/// The form that the buttons in the rows belong to.
pub(super) fn put_row_form(html: &mut Html, form: &Form) {
    html.put(format_args!("<form id=row method=post action=/backends>"));
    put_token(html, form);
    html.put(format_args!("</form>"));
}

/// The buttons of a backend in this state; a bench ends by being resumed, too. They name it by its URL: names by place move when the
/// list does.
pub(super) fn put_buttons(html: &mut Html, name: &str, url: &str, state: BackendState) {
    const RESUME: (&str, &str) = ("resume", "Resume");
    const PAUSE: (&str, &str) = ("pause", "Pause");
    let (name, url) = (Escaped(name), Escaped(url));
    let verbs: &[_] = match state {
        BackendState::Paused => &[RESUME],
        BackendState::Benched => &[RESUME, PAUSE],
        BackendState::Racing | BackendState::Held => &[PAUSE],
    };
    for (verb, word) in verbs {
        html.put(format_args!(
            "<button form=row name={verb} value=\"{url}\" aria-label=\"{word} {name}\">{word}</button>"
        ));
    }
    html.put(format_args!(
        "<details><summary>Remove…</summary>\
         <button form=row name=remove value=\"{url}\" class=bad>Remove {name}</button></details>"
    ));
}

/// The list to edit, or why it can't be edited here.
pub(super) fn put_edit(html: &mut Html, facts: &Facts, form: &Form) {
    html.put(format_args!("<section id=edit><h2>The list</h2>"));
    if let Some(attempt) = &form.attempt {
        put_error(html, attempt.refusal);
    }
    match &facts.not_kept {
        Some(reason) if !form.is_shown(facts) => html.put(format_args!("<p class=warn>{}.</p>", Escaped(reason))),
        _ => put_forms(html, facts, form),
    }
    html.put(format_args!("</section>"));
}

fn put_forms(html: &mut Html, facts: &Facts, form: &Form) {
    put_fields(html, facts, form);
    if form.is_held() {
        html.put(format_args!("<p><a href=/>Back to the running page</a></p>"));
    } else {
        html.put(format_args!(
            "<noscript><p>Without scripts this page loads anew every 5 s: <a href=\"/?{STILL}#edit\">hold it still</a> to \
             type.</p></noscript>"
        ));
    }
    put_verbs(html, facts);
}

fn put_error(html: &mut Html, refusal: &Refusal) {
    html.put(format_args!("<div class=error role=alert><b>{}</b>", Escaped(refusal.sentence())));
    for line in refusal.details() {
        html.put(format_args!("<br>{}", Escaped(&line)));
    }
    html.put(format_args!("</div>"));
}

fn put_fields(html: &mut Html, facts: &Facts, form: &Form) {
    let (list, entry) = (form.typed("replace"), form.typed("add"));
    let focus = |typed: &Option<String>| if typed.is_some() { " autofocus" } else { "" };
    let (list_focus, entry_focus) = (focus(&list), focus(&entry));
    let (list, entry) = (list.unwrap_or_else(|| facts.list.clone()), entry.unwrap_or_default());
    let lines = (list.lines().count() + 1).clamp(LINES_MIN, LINES_MAX);
    html.put(format_args!("<form method=post action=/backends>"));
    put_token(html, form);
    html.put(format_args!("<input type=hidden name=seen value=\"{}\">", Escaped(&form.seen(facts))));
    // A line's end that follows the tag doesn't count, so one of the text's own isn't lost.
    html.put(format_args!(
        "<label for=list>A backend a line: its URL, then its options. What a line doesn't say stays as it is.</label>\
         <textarea id=list name=replace rows={lines} spellcheck=false autocomplete=off autocapitalize=off{list_focus}>\n{}</textarea>\
         <button>Replace</button></form><form method=post action=/backends>",
        Escaped(&list)
    ));
    put_token(html, form);
    html.put(format_args!(
        "<label for=entry>One more backend, or other options for one that is listed:</label>\
         <span class=line><input id=entry type=text name=add value=\"{}\" placeholder=\"http://dc5.example name=dc5\" \
         spellcheck=false autocomplete=off autocapitalize=off{entry_focus}><button>Add</button></span></form>",
        Escaped(&entry)
    ));
}

fn put_token(html: &mut Html, form: &Form) {
    html.put(format_args!("<input type=hidden name=token value=\"{}\">", Escaped(form.token)));
}

/// The changes as curl makes them.
fn put_verbs(html: &mut Html, facts: &Facts) {
    let Some(first) = facts.sample.backends.first() else { return };
    html.put(format_args!(
        "<details><summary>By curl</summary><pre>curl {0}/backends -d pause={1}\ncurl {0}/backends -d resume={1}\n\
         curl {0}/backends -d 'add=http://dc5.example name=dc5'\ncurl {0}/backends -d remove={1}</pre></details>",
        Escaped(&facts.authority),
        Escaped(&first.name)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_paused_or_benched_can_be_resumed() {
        let rows = [
            (BackendState::Racing, &["pause"][..]),
            (BackendState::Held, &["pause"]),
            (BackendState::Benched, &["resume", "pause"]),
            (BackendState::Paused, &["resume"]),
        ];
        for (state, verbs) in rows {
            let mut html = Html::default();
            put_buttons(&mut html, "dc1", "http://a", state);
            let html = html.into_string();
            let found: Vec<&str> =
                html.split("<button form=row name=").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
            assert_eq!(found, [verbs, &["remove"]].concat(), "{state:?}");
        }
    }
}
