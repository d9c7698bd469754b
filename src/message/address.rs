//! A backend's address: a checked base URL, and the one place that puts a request's target behind it.
//! Knows nothing of names' addresses or connections.

use std::borrow::Cow;
use std::fmt;

use http::uri::{Authority, Scheme};
use url::{Host, Url};

use super::Target;

/// The longest base URL: with a target of 8 KiB behind it, a request line that most servers take.
const URL_BYTES_MAX: usize = 2048;

/// The longest label of a name, in bytes (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The base URL of a backend: http or https, a host, a port, a base path without its last slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    scheme: Scheme,
    authority: Authority,
    host: String,
    port: u16,
    base: String,
}

/// Refusal of a text that is no backend's address, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAddress(pub &'static str);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Address {
    /// Checks and normalises a base URL such as `https://dc2.example:8443/base`.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let url = Address::checked_url(text)?;
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadAddress("it has no host"))?;
        if let Some(Host::Domain(name)) = url.host()
            && !is_name(name)
        {
            return Err(BadAddress("its host isn't valid"));
        }
        let port = url.port_or_known_default().expect("http and https have default ports");
        if port == 0 {
            return Err(BadAddress("its port is 0"));
        }
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let authority = authority.parse().map_err(|_| BadAddress("its host isn't valid"))?;
        let base = url.path().trim_end_matches('/').to_owned();
        let text = format!("{scheme}://{authority}{base}");
        if text.len() > URL_BYTES_MAX {
            return Err(BadAddress("it is longer than 2048 bytes once its path is percent-encoded"));
        }
        Ok(Address { text, scheme, authority, host: host.trim_matches(['[', ']']).to_owned(), port, base })
    }

    fn checked_url(text: &str) -> Result<Url, BadAddress> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadAddress("it is longer than 2048 bytes"));
        }
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Err(BadAddress("it must begin with http:// or https://"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(BadAddress("it has a space, a control character or a backslash"));
        }
        let after_scheme = text.find("://").map_or("", |at| &text[at + 3..]);
        if after_scheme.is_empty() || after_scheme.starts_with(['/', '?', '#']) {
            return Err(BadAddress("it has no host"));
        }
        let url = parse_url(text).map_err(|error| match error {
            url::ParseError::EmptyHost => BadAddress("it has no host"),
            url::ParseError::InvalidPort => BadAddress("its port isn't valid"),
            url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => {
                BadAddress("its IP address isn't valid")
            }
            url::ParseError::IdnaError if !text.is_ascii() => {
                BadAddress("its host isn't valid: a name beyond ASCII is written in Punycode, as DNS has it (xn--…)")
            }
            _ => BadAddress("its host isn't valid"),
        })?;
        if !url.username().is_empty() || url.password().is_some() || after_scheme_has_userinfo(after_scheme) {
            return Err(BadAddress("it must not contain a user name or password"));
        }
        if url.query().is_some() {
            return Err(BadAddress("it must not contain a query"));
        }
        if url.fragment().is_some() {
            return Err(BadAddress("it must not contain a fragment"));
        }
        Ok(url)
    }

    /// The host: a name or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, the scheme's default if the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as `Host` has them: the port only if it isn't the scheme's default.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether the scheme is https, so that connections need TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether it has a base path.
    pub fn has_base(&self) -> bool {
        !self.base.is_empty()
    }

    /// Joins the base path and a target with exactly one slash, byte for byte; `is_exact` leaves that out behind the base path if the
    /// target's own path is nothing else. `*` stays `*`.
    pub fn target_text<'a>(&self, target: &'a Target, is_exact: bool) -> Cow<'a, str> {
        match target.as_str() {
            text if self.base.is_empty() || text == "*" => text.into(),
            text if is_exact && target.path() == "/" => format!("{}{}", self.base, &text[1..]).into(),
            text => format!("{}{text}", self.base).into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether its labels are such as a resolver takes: else every leg would end with `dns`. Container networks have underscores in names.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_letter);
    name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

fn after_scheme_has_userinfo(after_scheme: &str) -> bool {
    after_scheme.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Parses a URL whose host is ASCII, and not hidden by percent-encoding. For other names `url` asks `idna_adapter`, which has no tables
/// in this program, and panics at some.
pub(crate) fn parse_url(text: &str) -> Result<Url, url::ParseError> {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.trim_start_matches(|c: char| matches!(c, '/' | '\\') || c.is_ascii_whitespace());
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if !host.is_ascii() || host.contains('%') {
        return Err(url::ParseError::IdnaError);
    }
    Url::parse(text)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn good_addresses_are_normalised() {
        let rows = [
            ("http://a", "http://a"),
            ("HTTP://A.Example/", "http://a.example"),
            ("https://dc2.example/base", "https://dc2.example/base"),
            ("https://dc2.example/base/", "https://dc2.example/base"),
            ("http://a:80", "http://a"),
            ("https://a:443/x", "https://a/x"),
            ("http://a:443", "http://a:443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://xn--bcher-kva.example/%C3%9C", "http://xn--bcher-kva.example/%C3%9C"),
            ("http://a/Ü", "http://a/%C3%9C"),
            ("http://my_app-1.example.", "http://my_app-1.example."),
        ];
        for (text, expected) in rows {
            assert_eq!(Address::parse(text).map(|address| address.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_with_the_reason() {
        let (grows, long_label) = (format!("http://a/{}", "{".repeat(700)), format!("http://{}.a", "b".repeat(64)));
        let rows = [
            (&*grows, "percent-encoded"),
            ("", "http://"),
            ("a.example", "http://"),
            ("ftp://a", "http://"),
            ("http:/a", "http://"),
            ("http://", "no host"),
            ("http:///a", "no host"),
            ("http://?a", "no host"),
            ("http://a:0", "port is 0"),
            ("http://a:x", "port isn't valid"),
            ("http://a:65536", "port isn't valid"),
            ("http://u@a", "user name"),
            ("http://@a", "user name"),
            ("http://u:p@a", "user name"),
            ("http://a?q", "query"),
            ("http://a/?", "query"),
            ("http://a#f", "fragment"),
            ("http://a b", "space"),
            ("http://a\\b", "backslash"),
            ("http://[::1", "isn't valid"),
            ("http://1.2.3.400", "IP address"),
            ("http://a%00b", "host isn't valid"),
            ("http://bücher.example", "Punycode"),
            ("http://BÜCHER.example/x", "Punycode"),
            ("http://A%C3%BC", "host isn't valid"),
            ("https://%41.example:80/", "host isn't valid"),
            ("http://a<b", "host isn't valid"),
            ("http://a..b", "host isn't valid"),
            ("http://.a", "host isn't valid"),
            ("http://*", "host isn't valid"),
            ("http://*.a", "host isn't valid"),
            (&*long_label, "host isn't valid"),
            ("http://\u{3002}", "Punycode"),
            ("http://u%C3%BC@a", "user name"),
        ];
        for (text, part) in rows {
            let reason = Address::parse(text).expect_err(text).to_string();
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }

    #[test]
    fn a_target_joins_the_base_with_exactly_one_slash() {
        let rows = [
            ("http://a", "/", "/"),
            ("http://a/", "/x?y", "/x?y"),
            ("http://a/base", "/x", "/base/x"),
            ("http://a/base/", "/x", "/base/x"),
            ("http://a/base", "//x", "/base//x"),
            ("http://a/base", "/", "/base/"),
            ("http://a/base", "/%zz/../{|}\"?\\^`", "/base/%zz/../{|}\"?\\^`"),
            ("http://a/base", "/<^`\">?<^`\">\u{e9}", "/base/<^`\">?<^`\">\u{e9}"),
        ];
        for (base, target, expected) in rows {
            let address = Address::parse(base).expect(base);
            let target = Target::parse(&Method::GET, target).expect(target);
            assert_eq!(address.target_text(&target, false), expected, "{base}");
        }
    }

    #[test]
    fn an_exact_base_gets_no_slash_for_a_target_that_is_nothing_else() {
        let rows = [
            ("http://a/v3/KEY", "/", "/v3/KEY"),
            ("http://a/v3/KEY/", "/", "/v3/KEY"),
            ("http://a/v3/KEY", "/?a=/b", "/v3/KEY?a=/b"),
            ("http://a/v3/KEY", "/?", "/v3/KEY?"),
            ("http://a/v3/KEY", "http://b?c", "/v3/KEY?c"),
            ("http://a/v3/KEY", "/x", "/v3/KEY/x"),
            ("http://a/v3/KEY", "//", "/v3/KEY//"),
            ("http://a/v3/KEY", "//?x", "/v3/KEY//?x"),
            ("http://a", "/?x", "/?x"),
        ];
        for (base, target, expected) in rows {
            let address = Address::parse(base).expect(base);
            let target = Target::parse(&Method::GET, target).expect(target);
            assert_eq!(address.target_text(&target, true), expected, "{base}");
        }
    }

    #[test]
    fn an_asterisk_stays_one() {
        let target = Target::parse(&Method::OPTIONS, "*").expect("a target");
        let address = Address::parse("http://a/base").expect("an address");
        assert!([false, true].iter().all(|is_exact| address.target_text(&target, *is_exact) == "*"));
    }

    proptest::proptest! {
        /// Whatever an update says: `idna_adapter` panics at some names.
        #[test]
        fn any_text_is_an_address_or_is_refused(text in "(http://|HTTPS://|http:)?([a-zA-ZÜßä。．٠😀%C3x:@/\\\\\\[\\].-]|xn--|\\PC){0,12}") {
            let _ = Address::parse(&text);
            let _ = parse_url(&text);
        }
    }
}
