//! The guard of updates: they are for programs on this host that ask for themselves, for the status page, and for bearers of the
//! token. Knows nothing of what is asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderName, HeaderValue, ORIGIN, VIA};
use http::{HeaderMap, Version};
use ipnet::IpNet;

use super::secret::{Secret, is_basic};
use crate::message::{Excerpt, Networks, Refusal, Request, headers, takes_html};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The rules that a request for an update must keep.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Option<Secret>,
    hosts: Vec<String>,
    networks: Networks,
}

impl Guard {
    /// Makes the rules. With a token (`--admin-token-file`), its bearers may update and no others. Without one, peers
    /// on loopback or in `networks` (`--admin-from`) may, if they ask for `localhost`, an IP address or one of `hosts`
    /// (`--admin-host`, names without a port) and neither a browser's page nor another proxy sent them. An empty token
    /// admits no request.
    pub fn new(token: Option<&str>, hosts: &[String], networks: &[IpNet]) -> Guard {
        Guard { token: token.map(Secret::new), hosts: hosts.to_vec(), networks: Networks::new(networks) }
    }

    /// Checks whether the request may update. A refusal has the reason and the flag that would allow it.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        let checked = match &self.token {
            Some(token) => token.check_bearer(&request.headers).map_err(str::to_owned),
            None => self.check_without_token(request, |request| check_browser(&request.headers)),
        };
        checked.map_err(Refusal::Forbidden)
    }

    /// Checks whether the request may see the status page and what is beside it, and use the page's forms: as
    /// [`Guard::check`] does, but the page's own requests may, too. With a token a browser shows it as a password.
    pub fn check_page(&self, request: &Request) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return self
                .check_without_token(request, |request| check_origin(request, &["http"]))
                .map_err(Refusal::Forbidden);
        };
        let is_browser =
            is_from_browser(&request.headers) || takes_html(&request.headers) || is_basic(&request.headers);
        if !is_browser {
            return token.check_bearer(&request.headers).map_err(|reason| Refusal::Forbidden(reason.to_owned()));
        }
        if token.check_bearer(&request.headers).is_ok() {
            return Ok(());
        }
        // Before the browser asks for a password: no other site's page may have it do so. A proxy before this one may speak TLS.
        check_origin(request, &["http", "https"]).map_err(Refusal::Forbidden)?;
        token.check_basic(&request.headers).map_err(|reason| Refusal::Unauthorized(reason.to_owned()))
    }

    /// Whether a change needs the form's token, too: a browser sends what it knows of this host, a password, say, along with
    /// any request, be it meant by its user or not. A bearer's it doesn't.
    pub(super) fn needs_form_token(&self, request: &Request) -> bool {
        let is_bearer = |token: &Secret| token.check_bearer(&request.headers).is_ok();
        is_from_browser(&request.headers) && !self.token.as_ref().is_some_and(is_bearer)
    }

    fn check_without_token(
        &self,
        request: &Request,
        check_browser: impl FnOnce(&Request) -> Result<(), String>,
    ) -> Result<(), String> {
        self.check_peer(request.peer.network_ip())?;
        check_proxies(request)?;
        check_browser(request)?;
        self.check_host(request)
    }

    fn check_peer(&self, peer: IpAddr) -> Result<(), String> {
        if peer.is_loopback() || self.networks.contain(peer) {
            return Ok(());
        }
        let place =
            if self.networks.is_empty() { "a loopback address" } else { "a loopback address or in --admin-from" };
        Err(format!("the peer {peer} isn't {place}: use --admin-from or --admin-token-file"))
    }

    /// Checks the name that is asked for: a page can have its own name lead to this host (DNS rebinding), but it can't
    /// have the browser ask for another.
    fn check_host(&self, request: &Request) -> Result<(), String> {
        let field = headers::host_of(request);
        let field = field.as_ref().map_or(&b""[..], |value| value.as_bytes());
        let field = String::from_utf8_lossy(field);
        if host_without_port(&field).is_some_and(|host| self.is_own(host)) {
            return Ok(());
        }
        Err(format!(
            "Host '{}' isn't localhost, an IP address or a name given by --admin-host: use --admin-host or --admin-token-file",
            Excerpt(&field)
        ))
    }

    fn is_own(&self, host: &str) -> bool {
        host.eq_ignore_ascii_case("localhost")
            || is_ip(host)
            || self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Refuses what another proxy passes on: behind one on this host every client looks local. Many proxies tell so in a
/// field, or speak HTTP/1.0 (as nginx did by default up to 1.29.6), which hardly a client of today does. One that does
/// neither, as nginx since then, looks like a client: only a token helps there.
fn check_proxies(request: &Request) -> Result<(), String> {
    if let Some(field) = request.headers.keys().find_map(proxy_field) {
        return Err(format!("the request came through another proxy ({field}): use --admin-token-file"));
    }
    if request.version != Version::HTTP_11 {
        return Err("the request may have come through another proxy (HTTP/1.0): use --admin-token-file".to_owned());
    }
    Ok(())
}

fn proxy_field(name: &HeaderName) -> Option<&'static str> {
    if name == VIA {
        Some("Via")
    } else if name == FORWARDED {
        Some("Forwarded")
    } else if name == X_REAL_IP {
        Some("X-Real-IP")
    } else {
        name.as_str().starts_with("x-forwarded-").then_some("X-Forwarded-*")
    }
}

/// Whether a browser has sent the request, for a page or for the user: these fields no page can leave out or set.
fn is_from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE)
}

/// Refuses what a page of another origin has had a browser send. Its own requests come from the address that they go to, which
/// [`Guard::check_host`] checks. Over plain HTTP to another host browsers send no `Sec-Fetch-Site`.
fn check_origin(request: &Request, schemes: &[&str]) -> Result<(), String> {
    let told = |field: &str| {
        Err(format!("another site's page in a browser sent the request ({field}): type the address, or use curl"))
    };
    let mut sites = request.headers.get_all(SEC_FETCH_SITE).iter();
    if sites.next().is_some_and(|site| site != "same-origin" && site != "none") || sites.next().is_some() {
        return told("Sec-Fetch-Site");
    }
    let host = headers::host_of(request);
    let is_own = |origin: &HeaderValue| {
        let (scheme, rest) = origin.to_str().ok()?.split_once("://")?;
        Some(schemes.contains(&scheme) && rest.as_bytes() == host.as_ref()?.as_bytes())
    };
    let mut origins = request.headers.get_all(ORIGIN).iter();
    if origins.next().is_some_and(|origin| is_own(origin) != Some(true)) || origins.next().is_some() {
        return told("Origin");
    }
    Ok(())
}

/// Refuses what a browser's page sends: any page in a browser on this host may send a POST here. Browsers say so in
/// `Origin`, and in `Sec-Fetch-Site`, which is `none` only for addresses that the user typed.
fn check_browser(headers: &HeaderMap) -> Result<(), String> {
    let field = if headers.contains_key(ORIGIN) {
        "Origin"
    } else if headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "none") {
        "Sec-Fetch-Site"
    } else {
        return Ok(());
    };
    Err(format!("a page in a browser sent the request ({field}): use --admin-token-file"))
}

/// The host of a `Host` field: a name, or an IP address, of IPv6 in its brackets.
fn host_without_port(field: &str) -> Option<&str> {
    let end = if field.starts_with('[') { field.find(']')? + 1 } else { field.find(':').unwrap_or(field.len()) };
    let (host, port) = field.split_at(end);
    let digits = port.strip_prefix(':').unwrap_or(port);
    // Where no colon follows the bracket, nothing may.
    let is_port = digits.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || digits.len() < port.len());
    is_port.then_some(host)
}

fn is_ip(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/-update-backends";

    /// A guard of the default rules, with what the flags add to them.
    fn guard(hosts: &[&str], networks: &[&str]) -> Guard {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let networks: Vec<_> = networks.iter().map(|network| network.parse().expect("a network")).collect();
        Guard::new(None, &hosts, &networks)
    }

    fn request(fields: &[(&str, &str)]) -> Request {
        crate::admin::request("POST", TARGET, fields, b"")
    }

    fn from(peer: &str, fields: &[(&str, &str)]) -> Request {
        let ip = peer.parse().expect("an address");
        Request { peer: std::net::SocketAddr::new(ip, 50_000).into(), ..request(fields) }
    }

    /// The reason why the request may not update; empty if it may.
    fn reason(guard: &Guard, request: &Request) -> String {
        match guard.check(request) {
            Ok(()) => String::new(),
            Err(Refusal::Forbidden(reason)) => reason,
            Err(other) => panic!("the guard said {other:?}"),
        }
    }

    #[test]
    fn a_peer_on_loopback_or_in_a_network_may_update() {
        let rows: &[(&str, &[&str], &str, &str)] = &[
            ("loopback", &[], "127.0.0.1", ""),
            ("all of 127/8 is loopback", &[], "127.255.1.2", ""),
            ("loopback of IPv6", &[], "::1", ""),
            ("loopback, mapped", &[], "::ffff:127.0.0.1", ""),
            ("all of mapped 127/8", &[], "::ffff:127.9.9.9", ""),
            (
                "elsewhere",
                &[],
                "192.0.2.7",
                "the peer 192.0.2.7 isn't a loopback address: use --admin-from or --admin-token-file",
            ),
            (
                "elsewhere, mapped",
                &[],
                "::ffff:192.0.2.7",
                "the peer 192.0.2.7 isn't a loopback address: use --admin-from or --admin-token-file",
            ),
            (
                "elsewhere, IPv6",
                &[],
                "2001:db8::1",
                "the peer 2001:db8::1 isn't a loopback address: use --admin-from or --admin-token-file",
            ),
            ("loopback, compatible but not mapped", &[], "::127.0.0.1", "isn't a loopback address"),
            ("private is not local", &[], "10.0.0.1", "isn't a loopback address"),
            ("unspecified is not local", &[], "0.0.0.0", "isn't a loopback address"),
            ("in the network", &["172.17.0.0/16"], "172.17.0.1", ""),
            ("in the network, mapped", &["172.17.0.0/16"], "::ffff:172.17.0.1", ""),
            ("in a network given as mapped", &["::ffff:172.17.0.0/112"], "172.17.0.1", ""),
            ("in the second network", &["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1", ""),
            ("loopback besides networks", &["172.17.0.0/16"], "127.0.0.1", ""),
            (
                "beside the network",
                &["172.17.0.0/16"],
                "172.18.0.1",
                "the peer 172.18.0.1 isn't a loopback address or in --admin-from: use --admin-from or --admin-token-file",
            ),
            ("all of IPv6 is nothing of IPv4", &["::/0"], "::ffff:192.0.2.7", "the peer 192.0.2.7 isn't"),
        ];
        for (label, networks, peer, expected) in rows {
            let reason = reason(&guard(&[], networks), &from(peer, &[("host", "localhost")]));
            assert!(reason.contains(expected), "{label}: {reason}");
            assert_eq!(reason.is_empty(), expected.is_empty(), "{label}: {reason}");
        }
    }

    #[test]
    fn the_host_must_be_local_an_ip_address_or_a_given_name() {
        let rows = [
            ("localhost", "localhost", true),
            ("with a port", "localhost:8081", true),
            ("with an empty port", "localhost:", true),
            ("in another case", "LocalHost:8081", true),
            ("IPv4", "127.0.0.1", true),
            ("IPv4 with a port", "127.0.0.1:8081", true),
            ("any IPv4", "192.0.2.7", true),
            ("IPv6", "[::1]", true),
            ("IPv6 with a port", "[::1]:8081", true),
            ("any IPv6", "[2001:db8::1]", true),
            ("a given name", "admin.example", true),
            ("a given name with a port", "admin.example:8081", true),
            ("a given name in another case", "ADMIN.Example", true),
            ("the second given name", "proxy", true),
            ("another name", "evil.example", false),
            ("below localhost", "a.localhost", false),
            ("beginning like localhost", "localhost.evil.example", false),
            ("below a given name", "a.admin.example", false),
            ("the end of a given name", "example", false),
            ("beginning like an address", "127.0.0.1.evil.example", false),
            ("a short address", "127.1", false),
            ("a decimal address", "2130706433", false),
            ("IPv6 without brackets", "::1", false),
            ("IPv6 with a zone", "[fe80::1%eth0]", false),
            ("IPv4 in brackets", "[127.0.0.1]", false),
            ("an open bracket", "[::1", false),
            ("something behind the bracket", "[::1]x", false),
            ("digits behind the bracket", "[::1]80", false),
            ("a port that is none", "localhost:80x", false),
            ("two ports", "localhost:80:80", false),
            ("userinfo", "localhost:80@evil.example", false),
            ("userinfo before localhost", "u@localhost", false),
            ("a list", "localhost, localhost", false),
            ("empty", "", false),
            ("only a port", ":80", false),
        ];
        let guard = guard(&["Admin.Example", "proxy"], &[]);
        for (label, host, expected) in rows {
            let reason = reason(&guard, &request(&[("host", host)]));
            assert_eq!(reason.is_empty(), expected, "{label}: {reason}");
            assert!(expected || reason.contains("--admin-host"), "{label}: {reason}");
        }
        assert!(reason(&guard, &request(&[])).starts_with("Host '' isn't"), "no Host at all");
    }

    #[test]
    fn the_authority_of_an_absolute_target_counts_instead_of_host() {
        let rows = [
            ("both local", "http://localhost/", "localhost", true),
            ("the target local", "http://127.0.0.1:8081/", "evil.example", true),
            ("the target elsewhere", "http://evil.example/", "localhost", false),
        ];
        for (label, target, host, expected) in rows {
            let request = crate::admin::request("POST", target, &[("host", host)], b"");
            assert_eq!(guard(&[], &[]).check(&request).is_ok(), expected, "{label}");
        }
    }

    #[test]
    fn a_host_is_shown_escaped_and_cut() {
        let guard = guard(&[], &[]);
        assert_eq!(
            reason(&guard, &request(&[("host", "evil.example")])),
            "Host 'evil.example' isn't localhost, an IP address or a name given by --admin-host: \
             use --admin-host or --admin-token-file"
        );
        let escaped = reason(&guard, &request(&[("host", "a\t'\u{202e}")]));
        assert!(escaped.starts_with(r"Host 'a\t\'\u{202e}' isn't"), "{escaped}");
        assert!(reason(&guard, &request(&[("host", &"x".repeat(8000))])).len() < 300);
    }

    #[test]
    fn a_request_by_another_proxy_or_a_page_is_refused() {
        let rows = [
            ("Via", "via", "1.1 other", "came through another proxy (Via): use --admin-token-file"),
            ("Forwarded", "forwarded", "for=192.0.2.7", "(Forwarded): use --admin-token-file"),
            ("X-Forwarded-For", "x-forwarded-for", "127.0.0.1", "(X-Forwarded-*): use --admin-token-file"),
            ("X-Forwarded-Host", "x-forwarded-host", "localhost", "(X-Forwarded-*): use --admin-token-file"),
            ("X-Forwarded-Proto", "x-forwarded-proto", "http", "(X-Forwarded-*): use --admin-token-file"),
            ("any X-Forwarded-*", "x-forwarded-whatever", "", "(X-Forwarded-*): use --admin-token-file"),
            ("X-Real-IP", "x-real-ip", "127.0.0.1", "(X-Real-IP): use --admin-token-file"),
            ("an empty Via", "via", "", "(Via): use --admin-token-file"),
            ("Origin", "origin", "http://evil.example", "a page in a browser sent the request (Origin): use"),
            ("a local Origin", "origin", "http://localhost:8081", "(Origin): use --admin-token-file"),
            ("a null Origin", "origin", "null", "(Origin): use --admin-token-file"),
            ("another site", "sec-fetch-site", "cross-site", "(Sec-Fetch-Site): use --admin-token-file"),
            ("the same site", "sec-fetch-site", "same-site", "(Sec-Fetch-Site): use --admin-token-file"),
            ("the same origin", "sec-fetch-site", "same-origin", "(Sec-Fetch-Site): use --admin-token-file"),
            ("typed by the user", "sec-fetch-site", "none", ""),
            ("a field that is about neither", "x-forwardedness", "1", ""),
            ("a token that isn't asked for", "authorization", "Bearer x", ""),
        ];
        for (label, name, value, expected) in rows {
            let fields = [("host", "localhost"), (name, value)];
            for peer in ["127.0.0.1", "172.17.0.1"] {
                let reason = reason(&guard(&[], &["172.17.0.0/16"]), &from(peer, &fields));
                assert!(reason.contains(expected), "{label} from {peer}: {reason}");
                assert_eq!(reason.is_empty(), expected.is_empty(), "{label} from {peer}: {reason}");
            }
        }
        let twice = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert!(guard(&[], &[]).check(&request(&twice)).is_err(), "two sites");
    }

    #[test]
    fn http_1_0_means_another_proxy() {
        let request = Request { version: Version::HTTP_10, ..request(&[("host", "localhost")]) };
        let reason = reason(&guard(&[], &[]), &request);
        assert_eq!(reason, "the request may have come through another proxy (HTTP/1.0): use --admin-token-file");
    }

    #[test]
    fn with_a_token_its_bearer_may_update_and_no_other_client() {
        let rows: &[(&str, &[&str], &str)] = &[
            ("right", &["Bearer s3cret-"], ""),
            ("a scheme in another case", &["bEARER s3cret-"], ""),
            ("several spaces", &["Bearer   s3cret-"], ""),
            ("missing", &[], "the request has no token: send 'Authorization: Bearer TOKEN' (--admin-token-file)"),
            ("wrong", &["Bearer s3cret+"], "the token isn't the one in --admin-token-file"),
            ("in another case", &["Bearer S3CRET-"], "the token isn't"),
            ("its beginning", &["Bearer s3cret"], "the token isn't"),
            ("longer", &["Bearer s3cret-x"], "the token isn't"),
            ("given one and a half times", &["Bearer s3cret-s3c"], "the token isn't"),
            ("given twice in a row", &["Bearer s3cret-s3cret-"], "the token isn't"),
            ("two in one field", &["Bearer s3cret-, Bearer s3cret-"], "the token isn't"),
            ("two fields", &["Bearer s3cret-", "Bearer s3cret-"], "the request has more than one Authorization"),
            ("right, then wrong", &["Bearer s3cret-", "Bearer x"], "the request has more than one Authorization"),
            ("another scheme", &["Basic s3cret-"], "Authorization isn't of the form 'Bearer TOKEN'"),
            ("no scheme", &["s3cret-"], "Authorization isn't of the form"),
            ("no space", &["Bearers3cret-"], "Authorization isn't of the form"),
            ("no token", &["Bearer"], "Authorization isn't of the form"),
            ("nothing but a space", &["Bearer "], "Authorization isn't of the form"),
            ("empty", &[""], "Authorization isn't of the form"),
            ("not ASCII", &["Bearér s3cret-"], "Authorization isn't of the form"),
        ];
        let networks = ["192.0.2.0/24".parse().expect("a network")];
        let guard = Guard::new(Some("s3cret-"), &["admin.example".to_owned()], &networks);
        for (label, values, expected) in rows {
            let mut fields = vec![("host", "localhost")];
            fields.extend(values.iter().map(|value| ("authorization", *value)));
            for peer in ["127.0.0.1", "192.0.2.7"] {
                let reason = reason(&guard, &from(peer, &fields));
                assert!(reason.starts_with(expected), "{label} from {peer}: {reason}");
                assert_eq!(reason.is_empty(), expected.is_empty(), "{label} from {peer}: {reason}");
                assert!(!reason.contains("s3cret"), "{label} from {peer}: {reason}");
            }
        }
    }

    #[test]
    fn with_the_right_token_nothing_else_counts() {
        let fields = [
            ("host", "evil.example"),
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("via", "1.0 other"),
            ("x-forwarded-for", "203.0.113.9"),
            ("authorization", "Bearer s3cret-"),
        ];
        let request = Request { version: Version::HTTP_10, ..from("203.0.113.9", &fields) };
        assert_eq!(Guard::new(Some("s3cret-"), &[], &[]).check(&request), Ok(()));
    }

    #[test]
    fn an_empty_token_admits_no_request() {
        let guard = Guard::new(Some(""), &[], &[]);
        for value in ["Bearer", "Bearer ", "Bearer x", ""] {
            assert!(guard.check(&request(&[("host", "localhost"), ("authorization", value)])).is_err(), "{value}");
        }
    }

    #[test]
    fn a_guard_never_shows_its_token() {
        let shown = format!("{:?}", Guard::new(Some("s3cret-"), &[], &[]));
        assert!(shown.contains("Secret(hidden)") && !shown.contains("s3cret"), "{shown}");
    }
    /// Whether the page may be seen, and whether its forms need their token.
    fn seen(guard: &Guard, request: &Request) -> (u16, bool) {
        let status = guard.check_page(request).map_or_else(|refusal| refusal.status().as_u16(), |()| 200);
        (status, guard.needs_form_token(request))
    }

    #[test]
    fn the_page_s_own_requests_are_let_in_and_no_other_page_s() {
        let own = ("origin", "http://localhost:8081");
        let site = |site| ("sec-fetch-site", site);
        let rows: &[(&str, &[(&str, &str)], (u16, bool))] = &[
            ("curl", &[], (200, false)),
            ("typed by the user", &[site("none")], (200, true)),
            ("the page's script", &[site("same-origin")], (200, true)),
            ("the page's form", &[site("same-origin"), own], (200, true)),
            ("the page's form, typed anew", &[site("none"), own], (200, true)),
            ("over plain HTTP to another host", &[own], (200, true)),
            ("another site", &[site("cross-site")], (403, true)),
            ("another site with our origin", &[site("cross-site"), own], (403, true)),
            ("another port of this host", &[site("same-site"), ("origin", "http://localhost:3000")], (403, true)),
            ("another port alone", &[("origin", "http://localhost:3000")], (403, true)),
            ("another scheme", &[("origin", "https://localhost:8081")], (403, true)),
            ("another name of this host", &[("origin", "http://127.0.0.1:8081")], (403, true)),
            ("no port", &[("origin", "http://localhost")], (403, true)),
            ("a null origin", &[site("same-origin"), ("origin", "null")], (403, true)),
            ("an empty origin", &[("origin", "")], (403, true)),
            ("two origins", &[own, own], (403, true)),
            ("two sites", &[site("same-origin"), site("cross-site")], (403, true)),
            ("an unknown site", &[site("same-origin-x")], (403, true)),
            ("through a proxy", &[site("same-origin"), own, ("via", "1.1 other")], (403, true)),
        ];
        for (label, fields, expected) in rows {
            let request = request(&[&[("host", "localhost:8081")], *fields].concat());
            assert_eq!(seen(&guard(&[], &[]), &request), *expected, "{label}");
        }
        let rebound = request(&[("host", "evil.example"), site("same-origin"), ("origin", "http://evil.example")]);
        assert_eq!(seen(&guard(&[], &[]), &rebound).0, 403, "a name that leads here");
        assert_eq!(seen(&guard(&["evil.example"], &[]), &rebound).0, 200, "unless it is ours");
        let elsewhere = from("192.0.2.7", &[("host", "localhost:8081"), site("same-origin"), own]);
        assert_eq!(seen(&guard(&[], &[]), &elsewhere).0, 403, "from another host");
    }

    #[test]
    fn with_a_token_a_browser_is_asked_for_a_password() {
        // `me:s3cret-` and `me:wrong`.
        let (right, wrong) = (("authorization", "Basic bWU6czNjcmV0LQ=="), ("authorization", "Basic bWU6d3Jvbmc="));
        let bearer = ("authorization", "Bearer s3cret-");
        let (html, own) = (("accept", "text/html,*/*"), ("origin", "http://admin.example"));
        let site = |site| ("sec-fetch-site", site);
        let rows: &[(&str, &[(&str, &str)], (u16, bool))] = &[
            ("curl without it", &[], (403, false)),
            ("curl with it", &[bearer], (200, false)),
            ("curl with a password", &[right], (200, false)),
            ("curl with a wrong one", &[wrong], (401, false)),
            ("a bearer, whatever else it sends", &[bearer, site("cross-site"), ("origin", "null")], (200, false)),
            ("a browser", &[html, site("none")], (401, true)),
            ("a browser over plain HTTP", &[html], (401, false)),
            ("a browser with it", &[html, site("none"), right], (200, true)),
            ("a browser with a wrong one", &[html, site("none"), wrong], (401, true)),
            ("the page's form", &[html, site("same-origin"), own, right], (200, true)),
            (
                "behind a proxy that speaks TLS",
                &[html, site("same-origin"), ("origin", "https://admin.example"), right],
                (200, true),
            ),
            ("another site, which asks for no password", &[html, site("cross-site")], (403, true)),
            ("another site with it", &[html, site("cross-site"), right], (403, true)),
            ("a null origin with it", &[html, ("origin", "null"), right], (403, true)),
            ("both", &[html, right, bearer], (401, false)),
        ];
        let guard = Guard::new(Some("s3cret-"), &[], &[]);
        for (label, fields, expected) in rows {
            let request = from("192.0.2.7", &[&[("host", "admin.example")], *fields].concat());
            assert_eq!(seen(&guard, &request), *expected, "{label}");
            let reply = guard.check_page(&request).err().map(|refusal| refusal.reply());
            let challenge = reply.and_then(|reply| reply.headers.get("www-authenticate").cloned());
            assert_eq!(
                challenge.is_some_and(|value| value == "Basic realm=\"red-tentacle\""),
                expected.0 == 401,
                "{label}"
            );
        }
        assert!(guard.check(&request(&[right])).is_err(), "an update takes a bearer alone");
    }
}
