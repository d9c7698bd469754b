//! The text of a file that holds a list: what becomes of it when the list is another one. Knows nothing of files.

use crate::message::{Address, EntryOptions, ListEntry, parse_entries, pieces};

/// The longest line, in bytes: the longest URL has 2,048.
pub(super) const LINE_BYTES_MAX: usize = 4096;
/// What a file that the program creates begins with.
const PREAMBLE: &str =
    "# The backends of red-tentacle. After an edit: kill -HUP, or systemctl reload. Updates are written here, too.\n";

/// The text for another list. Comments and the lines of backends that stay as they are stay byte for byte; new ones go to the
/// end. The order is the text's.
pub(super) fn rewritten(text: Option<&str>, wanted: &[ListEntry]) -> String {
    let text = text.unwrap_or(PREAMBLE);
    let mut kept = String::new();
    let mut seen: Vec<Address> = Vec::new();
    for line in text.split_inclusive('\n') {
        let of_line: Vec<ListEntry> = parse_entries(line).unwrap_or_default();
        kept.push_str(&line_for(line, &of_line, wanted));
        seen.extend(of_line.into_iter().map(|entry| entry.address));
    }
    let text = with_new(kept, wanted.iter().filter(|entry| !seen.contains(&entry.address)));
    if is_list(&text, wanted) { text } else { plain(&text, wanted) }
}

/// A line, without the backends that aren't wanted any more; nothing if it has held no other.
fn line_for(line: &str, entries: &[ListEntry], wanted: &[ListEntry]) -> String {
    if entries.iter().all(|entry| wanted.contains(entry)) {
        return line.to_owned();
    }
    let texts = pieces(line).map(|(_, text)| text).filter(|text| !text.is_empty());
    let left: Vec<String> = (entries.iter().zip(texts))
        .filter_map(|(entry, text)| {
            let wanted = wanted.iter().find(|wanted| wanted.address == entry.address)?;
            Some(edited(text, entry, wanted))
        })
        .collect();
    let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
    if left.is_empty() { String::new() } else { left.join(", ") + end }
}

/// The text of an entry whose options are others now, with as little of it changed as can be.
fn edited(text: &str, entry: &ListEntry, wanted: &ListEntry) -> String {
    if entry.options == wanted.options {
        return text.to_owned();
    }
    let url = text.split_whitespace().next().unwrap_or_default();
    let paused_alike = EntryOptions { is_paused: wanted.options.is_paused, ..entry.options.clone() };
    match (entry.options.is_paused, wanted.options.is_paused) {
        _ if paused_alike != wanted.options => format!("{url}{}", wanted.options),
        (false, true) => format!("{text} paused"),
        // The last word of it, or between two others.
        _ => match text.strip_suffix("paused").filter(|before| before.ends_with(char::is_whitespace)) {
            Some(before) => before.trim_end().to_owned(),
            None => format!("{url}{}", wanted.options),
        },
    }
}

fn with_new<'a>(mut text: String, new: impl Iterator<Item = &'a ListEntry>) -> String {
    for entry in new {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&entry.to_string());
        text.push('\n');
    }
    text
}

fn is_list(text: &str, wanted: &[ListEntry]) -> bool {
    let is_short = text.split('\n').all(|line| line.len() <= LINE_BYTES_MAX);
    is_short
        && parse_entries(text)
            .is_ok_and(|list| list.len() == wanted.len() && list.iter().all(|entry| wanted.contains(entry)))
}

/// Comments as they are, and then the list, a line each: where commas stood so that lines can't be left out, or a line with several
/// would become too long.
fn plain(text: &str, wanted: &[ListEntry]) -> String {
    let comments = text.split_inclusive('\n').filter(|line| pieces(line).next().is_none()).collect();
    with_new(comments, wanted.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_not_touched() {
        let text = "# ours\n\nhttp://a   name=dc1\r\n\thttp://b ,  http://c\n# end";
        let rows = [
            ("the same", "http://a name=dc1,http://b,http://c", text),
            ("in another order", "http://c,http://b,http://a name=dc1", text),
            ("one is gone", "http://b,http://c", "# ours\n\n\thttp://b ,  http://c\n# end"),
            ("one of two is gone", "http://a name=dc1,http://c", "# ours\n\nhttp://a   name=dc1\r\nhttp://c\n# end"),
            (
                "one is new",
                "http://a name=dc1,http://b,http://c,http://d",
                "# ours\n\nhttp://a   name=dc1\r\n\thttp://b ,  http://c\n# end\nhttp://d\n",
            ),
            (
                "one is paused",
                "http://a name=dc1 paused,http://b,http://c",
                "# ours\n\nhttp://a   name=dc1 paused\r\n\thttp://b ,  http://c\n# end",
            ),
            (
                "one starts later",
                "http://a name=dc1,http://b after=p95,http://c",
                "# ours\n\nhttp://a   name=dc1\r\nhttp://b after=p95, http://c\n# end",
            ),
            (
                "one of two is named",
                "http://a name=dc1,http://b,http://c name=x",
                "# ours\n\nhttp://a   name=dc1\r\nhttp://b, http://c name=x\n# end",
            ),
            ("all are others", "http://x", "# ours\n\n# end\nhttp://x\n"),
        ];
        for (label, wanted, expected) in rows {
            let wanted = parse_entries(wanted).expect(label);
            let text = rewritten(Some(text), &wanted);
            assert_eq!(text, expected, "{label}");
            assert!(is_list(&text, &wanted), "{label}");
        }
    }

    #[test]
    fn a_pause_is_one_word_of_the_line() {
        let rows = [
            ("http://a  name=x\n", "http://a name=x paused", "http://a  name=x paused\n"),
            ("http://a  name=x  paused\n", "http://a name=x", "http://a  name=x\n"),
            ("http://a/  paused  name=x\n", "http://a name=x", "http://a/ name=x\n"),
            ("HTTP://A:80 paused", "http://a", "HTTP://A:80"),
        ];
        for (text, wanted, expected) in rows {
            assert_eq!(rewritten(Some(text), &parse_entries(wanted).expect(wanted)), expected, "{text}");
        }
    }

    #[test]
    fn a_comma_without_its_line_is_no_bad_list() {
        let wanted = parse_entries("http://b").expect("a list");
        let text = rewritten(Some("# x\nhttp://a\n,http://b\n"), &wanted);
        assert!(text.starts_with("# x\n") && is_list(&text, &wanted), "{text}");
    }

    #[test]
    fn a_new_file_says_what_it_is() {
        let wanted = parse_entries("http://b paused,http://a name=x").expect("a list");
        assert_eq!(rewritten(None, &wanted), format!("{PREAMBLE}http://b paused\nhttp://a name=x\n"));
    }
}
