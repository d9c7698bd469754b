//! The request target (RFC 9112 §3.2): what is asked for, as the client wrote it.
//! Knows nothing of backends.

use std::fmt;

use http::Method;

use super::Refusal;

/// A checked request target: a path with its query, or `*`. Kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    authority: Option<String>,
}

impl Target {
    /// Checks the target of a request line: origin-form, absolute-form of http or https, or `*` with OPTIONS.
    pub fn parse(method: &Method, text: &str) -> Result<Target, Refusal> {
        if method == Method::CONNECT {
            return Err(Refusal::NotImplemented("CONNECT isn't implemented"));
        }
        if text.contains('#') {
            return Err(Refusal::BadRequest("The request target has a fragment"));
        }
        if text.starts_with('/') {
            return Ok(Target { text: text.to_owned(), authority: None });
        }
        if text == "*" {
            return if method == Method::OPTIONS {
                Ok(Target { text: text.to_owned(), authority: None })
            } else {
                Err(Refusal::BadRequest("The request target * goes with OPTIONS only"))
            };
        }
        Target::parse_absolute(method, text)
    }

    fn parse_absolute(method: &Method, text: &str) -> Result<Target, Refusal> {
        const BAD: Refusal = Refusal::BadRequest("The request target is no path and no http URL");
        let scheme_end = text.find("://").ok_or(BAD)?;
        if !matches!(text[..scheme_end].to_ascii_lowercase().as_str(), "http" | "https") {
            return Err(BAD);
        }
        let rest = &text[scheme_end + 3..];
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        if !is_host_field(authority) || authority.is_empty() {
            return Err(BAD);
        }
        let text = match path {
            // RFC 9112 §3.2.4: `OPTIONS http://host` is the absolute-form of `OPTIONS *`.
            "" if method == Method::OPTIONS => "*".to_owned(),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("/{path}"),
        };
        Ok(Target { text, authority: Some(authority.to_owned()) })
    }

    /// The path, before any `?`.
    pub fn path(&self) -> &str {
        self.text.split_once('?').map_or(&self.text, |(path, _)| path)
    }

    /// The query, behind the first `?`.
    pub fn query(&self) -> Option<&str> {
        self.text.split_once('?').map(|(_, query)| query)
    }

    /// Path and query, or `*`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The authority of an absolute-form target; it replaces `Host` (RFC 9112 §3.2.2).
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a `Host` field is an authority without userinfo (RFC 9110 §7.2). An empty one is allowed.
pub(crate) fn is_host_field(host: &str) -> bool {
    host.is_empty()
        || !host.contains('@')
            && host.bytes().all(|byte| byte.is_ascii_graphic())
            && host.parse::<http::uri::Authority>().is_ok_and(|authority| has_valid_port(&authority))
}

/// `http` takes anything for a port; only digits that fit are one.
fn has_valid_port(authority: &http::uri::Authority) -> bool {
    let behind_host = &authority.as_str()[authority.host().len()..];
    behind_host.is_empty() || behind_host == ":" || authority.port_u16().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_kept_or_refused_by_form() {
        let rows = [
            ("origin", Method::GET, "/a/b?c=d", Some(("/a/b?c=d", None))),
            ("odd characters", Method::GET, "/|{}\"\\%zz//..?a=|", Some(("/|{}\"\\%zz//..?a=|", None))),
            ("second question mark", Method::GET, "/?a?b", Some(("/?a?b", None))),
            ("asterisk", Method::OPTIONS, "*", Some(("*", None))),
            ("asterisk elsewhere", Method::GET, "*", None),
            ("absolute", Method::GET, "http://h:1/p?q", Some(("/p?q", Some("h:1")))),
            ("absolute, upper case", Method::GET, "HTTPS://h/p", Some(("/p", Some("h")))),
            ("absolute without path", Method::GET, "http://h", Some(("/", Some("h")))),
            ("absolute, query only", Method::GET, "http://h?q", Some(("/?q", Some("h")))),
            ("absolute OPTIONS", Method::OPTIONS, "http://h", Some(("*", Some("h")))),
            ("userinfo", Method::GET, "http://u@h/", None),
            ("no host", Method::GET, "http:///p", None),
            ("other scheme", Method::GET, "ftp://h/", None),
            ("authority", Method::GET, "h:80", None),
            ("relative", Method::GET, "a/b", None),
            ("fragment", Method::GET, "/a#b", None),
            ("CONNECT", Method::CONNECT, "h:80", None),
        ];
        for (label, method, text, expected) in rows {
            let parsed = Target::parse(&method, text).ok();
            let parsed = parsed.as_ref().map(|target| (target.as_str(), target.authority()));
            assert_eq!(parsed, expected, "{label}");
        }
    }
}
