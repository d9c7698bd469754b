//! The request target (RFC 9112 §3.2), as the client wrote it. Knows nothing of backends.

use std::fmt;
use std::net::Ipv6Addr;

use http::Method;

use super::Refusal;

/// A checked request target: a path with its query, or `*`. Kept byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    /// Scheme and authority of an absolute-form target, as written.
    origin: Option<String>,
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
            return Ok(Target { text: text.to_owned(), origin: None });
        }
        if text == "*" {
            return if method == Method::OPTIONS {
                Ok(Target { text: text.to_owned(), origin: None })
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
        let authority_begin = scheme_end + 3;
        let origin_end = text[authority_begin..].find(['/', '?']).map_or(text.len(), |end| authority_begin + end);
        let (origin, path) = text.split_at(origin_end);
        let authority = &origin[authority_begin..];
        // RFC 9110 §4.2.1: an empty host is invalid here.
        if !is_host_field(authority) || authority.is_empty() || authority.starts_with(':') {
            return Err(BAD);
        }
        let text = match path {
            // RFC 9112 §3.2.4: `OPTIONS http://host` is the absolute-form of `OPTIONS *`.
            "" if method == Method::OPTIONS => "*".to_owned(),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("/{path}"),
        };
        Ok(Target { text, origin: Some(origin.to_owned()) })
    }

    /// The path, before any `?`.
    pub fn path(&self) -> &str {
        self.text.split_once('?').map_or(&self.text, |(path, _)| path)
    }

    /// The query, behind the first `?`.
    pub fn query(&self) -> Option<&str> {
        self.text.split_once('?').map(|(_, query)| query)
    }

    /// Whether some server may read its path as one above `/`. Counts the least depth that any finds: dots, slashes, backslashes and
    /// semicolons may be percent-encoded or not be read as such, empty segments be merged, parameters (`..;a`) be dropped.
    pub fn may_climb(&self) -> bool {
        let path = self.path();
        if !path.contains("..") && !path.contains("%2") {
            return false;
        }
        let path =
            path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "\\").replace("%5c", "\\").replace("%3b", ";");
        let mut depth = 0_usize;
        for segment in path.split('/') {
            let names = || segment.split('\\').map(|name| name.split(';').next().unwrap_or_default());
            let ups = names().filter(|name| *name == "..").count();
            if ups > depth {
                return true;
            }
            let is_down = ups == 0 && names().any(|name| !matches!(name, "" | "."));
            depth = depth - ups + usize::from(is_down);
        }
        false
    }

    /// Path and query, or `*`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The authority of an absolute-form target; it replaces `Host` (RFC 9112 §3.2.2).
    pub fn authority(&self) -> Option<&str> {
        self.origin().split_once("://").map(|(_, authority)| authority)
    }

    /// Scheme and authority of an absolute-form target, or nothing.
    pub fn origin(&self) -> &str {
        self.origin.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a `Host` field is an authority without userinfo (RFC 9110 §7.2): a host of RFC 3986 §3.2.2, and perhaps a port.
/// An empty one is allowed.
pub(crate) fn is_host_field(field: &str) -> bool {
    let (is_host, port) = match field.strip_prefix('[').and_then(|literal| literal.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok() || is_future_address(address), port),
        None => {
            let (name, port) = field.split_at(field.bytes().position(|byte| byte == b':').unwrap_or(field.len()));
            (is_name(name), port)
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Whether it is an `IPvFuture` (RFC 3986 §3.2.2): none exists, but it is a host.
fn is_future_address(address: &str) -> bool {
    let Some((version, address)) = address.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_version && !address.is_empty() && address.split(':').all(|part| !part.contains('%') && is_name(part))
}

/// Whether it is a `reg-name` (RFC 3986 §3.2.2), to which IPv4 addresses belong.
fn is_name(name: &str) -> bool {
    let mut parts = name.as_bytes().split(|byte| *byte == b'%');
    let is_plain =
        |part: &[u8]| part.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte));
    let is_encoded =
        |part: &[u8]| part.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() >= 2 && is_plain(part);
    parts.next().is_none_or(is_plain) && parts.all(is_encoded)
}

/// Whether it is digits that fit into a port, or none at all.
fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
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
            ("a port alone", Method::GET, "http://:80/p", None),
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

    #[test]
    fn a_path_climbs_if_any_way_to_read_it_leads_above_its_root() {
        let rows = [
            ("/", false),
            ("/a/b.c?d=/../..", false),
            ("*", false),
            ("/..", true),
            ("/../a", true),
            ("/..?a", true),
            ("/a/..", false),
            ("/a/../b/../c", false),
            ("/a/../../b", true),
            ("/a/b/c/../../../d", false),
            ("/a/b/c/../../../../d", true),
            ("/./../a", true),
            ("/a/./../../b", true),
            ("/...", false),
            ("/..a/b..", false),
            ("/%2e%2e/a", true),
            ("/%2E./a", true),
            ("/.%2e/a", true),
            ("/a/%2e%2E/%2e/b", false),
            ("/%2e/%2e%2e/a", true),
            ("/%2e%2e%2e", false),
            ("/%252e%252e/a", false),
            ("/%2F%2e%zz%", false),
            ("/..%2fa", true),
            ("/..%2Fa", true),
            ("/..%5ca", true),
            ("/..%5Ca", true),
            ("/..\\a", true),
            ("/a\\..\\..\\b", true),
            ("/a/b%2f..%2f..%2fc", true),
            ("/a%2f..%2fb", true),
            ("/a%2fb/..", false),
            ("/a%2fb/../..", true),
            ("/a/b/..%2f..", false),
            ("//..", true),
            ("/a//../..", true),
            ("/a/%2f/../..", true),
            ("/..;a/b", true),
            ("/..%3ba/b", true),
            ("/%2e%2e%3B/b", true),
            ("/a%3bb/../c", false),
            ("/a/..;/..;/b", true),
            ("/a;b=c/../d", false),
            ("/;a/../b", true),
            ("http://h/../a", true),
        ];
        for (text, expected) in rows {
            let method = if text == "*" { Method::OPTIONS } else { Method::GET };
            assert_eq!(Target::parse(&method, text).expect(text).may_climb(), expected, "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let good = [
            "",
            "a",
            "A.b-c_d~",
            "a:",
            "a:80",
            ":80",
            "1.2.3.4",
            "[::1]",
            "[::1]:",
            "[::ffff:1.2.3.4]:80",
            "a%41%2f",
            "a,b;c=d",
            "[v1f.a:b,c]:80",
        ];
        for host in good {
            assert!(is_host_field(host), "{host}");
        }
        let bad = [
            "a b",
            "a/b",
            "a@b",
            "a:+1",
            "a:65536",
            "a:1:2",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
            "a%4",
            "a%zz",
            "%",
            "a]",
            "é",
            "a\\b",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "[v1.%41]",
            "[::1%25eth0]",
        ];
        for host in bad {
            assert!(!is_host_field(host), "{host}");
        }
    }
}
