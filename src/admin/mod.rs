//! The replies to requests about the proxy itself: probes, and what the guard admits, by a table of paths. Knows nothing of
//! the race, of sockets, or of where the list is kept.

mod backends;
mod form;
mod guard;
mod health;
mod page;
mod secret;
mod update;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;

use crate::list::BackendList;
use crate::message::{Refusal, Reply, Request, Target, prefers_json, takes_html};
use crate::upstream::Backend;

pub use form::FORM_BYTES_MAX;
pub use guard::Guard;
use page::Attempt;
pub use page::Facts;
use secret::Secret;
pub use views::Views;

/// The paths of an update: the first is the admin port's own, the second is what a backend's path might look like. Both
/// work on both ports.
const UPDATE_PATHS: [&str; 2] = ["/-update-backends", "/update-backends"];

/// One path of the admin port.
struct Route {
    path: &'static str,
    /// The methods that it takes, as `Allow` has them.
    allow: &'static str,
    answer: fn(&Admin, &Request) -> Result<Reply, Refusal>,
}

/// The paths of what is shown, of which there are as many as races.
const VIEW: Route = Route { path: "/metrics", allow: "GET, HEAD", answer: Admin::shown };

/// All other paths but those of probes.
const ROUTES: &[Route] = &[
    Route { path: UPDATE_PATHS[0], allow: "POST", answer: Admin::update },
    Route { path: UPDATE_PATHS[1], allow: "POST", answer: Admin::update },
    Route { path: "/backends", allow: "GET, HEAD, POST", answer: Admin::backends },
];

impl Route {
    fn of(target: &Target) -> Option<&'static Route> {
        let route = ROUTES.iter().find(|route| route.path == target.path());
        route.or_else(|| Views::are_at(target).then_some(&VIEW))
    }
}

/// Gives the whole list of backends, with what they have done and whether they are asked.
type Listed = Box<dyn Fn() -> Vec<Arc<Backend>> + Send + Sync>;

/// The service of the admin port.
pub struct Admin {
    guard: Guard,
    list: Arc<BackendList>,
    listed: Listed,
    views: Views,
    /// What the page's forms carry, so that no other site's page can make up a form.
    form_token: Secret,
    stopping: AtomicBool,
}

impl Admin {
    /// Admits what `guard` admits; `list` is changed by it, `listed` says what is in force, and `views` are shown.
    pub fn new(guard: Guard, list: Arc<BackendList>, listed: Listed, views: Views) -> Admin {
        Admin { guard, list, listed, views, form_token: Secret::random(), stopping: AtomicBool::new(false) }
    }

    /// The list that this service changes.
    pub fn list(&self) -> &BackendList {
        &self.list
    }

    /// Makes the proxy unready for the rest of its life: shutdown has begun, and no list is taken any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether [`Admin::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Replies to a probe; `None` if the request is none. Open to every peer: probes don't always come from this host,
    /// and learn no more than by connecting.
    pub fn probed(&self, request: &Request) -> Option<Result<Reply, Refusal>> {
        health::probed(request, self.is_stopping())
    }

    /// Whether a target's path is one of the two of an update. The raw path counts: nothing is decoded or normalised,
    /// for a backend may tell `/update-backends/` from `/update-backends`.
    pub fn is_update(target: &Target) -> bool {
        UPDATE_PATHS.contains(&target.path())
    }

    /// Whether a request's body is worth taking, as its head says. A request that is refused here is refused by
    /// [`Admin::probed`] and [`Admin::answer`] as well: a stranger can't make the proxy keep a body.
    pub fn wants_body(&self, request: &Request) -> bool {
        match self.probed(request) {
            Some(probed) => probed.is_ok(),
            None => self.check(request).is_ok(),
        }
    }

    /// Answers a request. The guard comes before everything that would tell a stranger more than that the path exists.
    /// Blocks only on the disk: that of a form's spooled body, and that of the list ([`Admin::may_wait_for_disk`]).
    pub fn answer(&self, request: &Request) -> Result<Reply, Refusal> {
        (self.check(request)?.answer)(self, request)
    }

    /// Whether the answer may wait for the disk that the list is on: what changes the list does, and the page, which says
    /// whether that could be kept. What the guard refuses never does.
    pub fn may_wait_for_disk(&self, request: &Request) -> bool {
        let is_page = || Views::is_page(&request.target) && takes_html(&request.headers);
        (request.method == Method::POST || is_page()) && self.check(request).is_ok()
    }

    /// Whether a request asks only for what is shown: Prometheus does so every few seconds.
    pub fn is_view(target: &Target) -> bool {
        Views::are_at(target)
    }

    /// The reply of a refusal, in the form that the client prefers: to a change from the page that is the page again, with what
    /// was typed.
    pub fn refused(&self, request: &Request, refusal: &Refusal) -> Reply {
        if Route::of(&request.target).is_none() || Admin::is_update(&request.target) {
            return refusal.reply();
        }
        // A stranger gets no page.
        if request.method == Method::POST && takes_html(&request.headers) && self.check(request).is_ok() {
            let fields = form::fields(request).unwrap_or_default();
            return self.views.page(request, self.form_token.reveal(), Some(Attempt { refusal, fields }));
        }
        page::protected(if prefers_json(&request.headers) { backends::problem(refusal) } else { refusal.reply() })
    }

    /// Checks a request by its head.
    fn check(&self, request: &Request) -> Result<&'static Route, Refusal> {
        let route = Route::of(&request.target).ok_or(Refusal::NotFound)?;
        if Admin::is_update(&request.target) {
            self.guard.check(request)?;
        } else {
            self.guard.check_page(request)?;
        }
        if !route.allow.split(", ").any(|method| method == request.method.as_str()) {
            return Err(Refusal::MethodNotAllowed(route.allow));
        }
        if self.is_stopping() && request.method == Method::POST {
            // The next process begins with the list that it is started with.
            return Err(Refusal::Stopping);
        }
        Ok(route)
    }

    fn shown(&self, request: &Request) -> Result<Reply, Refusal> {
        if Views::is_list_instead(request) {
            return self.backends(request);
        }
        self.views.show(request, self.form_token.reveal())
    }

    fn update(&self, request: &Request) -> Result<Reply, Refusal> {
        update::update(request, &self.list)
    }

    fn backends(&self, request: &Request) -> Result<Reply, Refusal> {
        if request.method == Method::POST {
            let token = self.guard.needs_form_token(request).then_some(&self.form_token);
            backends::change(request, token, &self.list, &self.listed)?;
            if takes_html(&request.headers) {
                return Ok(page::see_page());
            }
        }
        Ok(backends::shown(request, &self.list, &(self.listed)()))
    }
}

/// Makes a request of curl's on this host, for the tables of this folder's tests.
#[cfg(test)]
fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Request {
    use crate::message::SpoolWriter;

    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut headers = http::HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    let mut spool = SpoolWriter::new(std::env::temp_dir().into(), 1 << 20);
    spool.append(body).expect("room");
    Request {
        target: Target::parse(&method, target).expect("a target"),
        method,
        version: http::Version::HTTP_11,
        headers,
        body: (!body.is_empty()).then(|| spool.finish()),
        peer: "127.0.0.1:50000".parse().expect("an address"),
        received: std::time::Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::message::ReplyBody;

    /// Makes an admin of the default rules, and a count of the lists that it has handed on.
    fn admin(token: Option<&str>) -> (Admin, Arc<Mutex<usize>>) {
        let replaced = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&replaced);
        let publish = move |_: &[_]| *counter.lock().expect("no panic") += 1;
        let first = crate::message::parse_entries("http://first").expect("a list");
        let list = Arc::new(BackendList::new(first, None, Box::new(publish)));
        let views = Views {
            metrics: Box::new(|| "figures".to_owned()),
            facts: Box::new(|_| panic!("no test looks at the page here")),
            races: Arc::default(),
        };
        (Admin::new(Guard::new(token, &[], &[]), list, Box::new(Vec::new), views), replaced)
    }

    #[test]
    fn only_the_two_exact_paths_are_updates() {
        let rows = [
            ("the admin port's", "/-update-backends", true),
            ("the proxy port's", "/update-backends", true),
            ("with a query", "/update-backends?backends=http://a", true),
            ("with an empty query", "/update-backends?", true),
            ("absolute-form", "http://localhost/update-backends", true),
            ("a slash behind it", "/update-backends/", false),
            ("two slashes before it", "//update-backends", false),
            ("percent-encoded", "/update%2Dbackends", false),
            ("in another case", "/Update-Backends", false),
            ("with dots", "/./update-backends", false),
            ("longer", "/update-backendsx", false),
            ("deeper", "/a/update-backends", false),
            ("in the query", "/?/update-backends", false),
            ("the root", "/", false),
        ];
        for (label, target, expected) in rows {
            assert_eq!(Admin::is_update(&request("POST", target, &[], b"").target), expected, "{label}");
        }
    }

    #[test]
    fn the_path_comes_first_then_the_guard_then_the_method_then_the_list() {
        let host: &[_] = &[("host", "localhost")];
        let via: &[_] = &[("host", "localhost"), ("via", "1.1 other")];
        let good = "/-update-backends?backends=http://a";
        let rows = [
            ("all is well", "POST", good, host, 200),
            ("on the other path", "POST", "/update-backends?backends=http://a", host, 200),
            ("another path", "POST", "/x", host, 404),
            ("another path, from a stranger", "POST", "/x", via, 404),
            ("a stranger", "POST", good, via, 403),
            ("a stranger with another method", "GET", good, via, 403),
            ("a stranger with a bad list", "POST", "/-update-backends?backends=x", via, 403),
            ("another method", "GET", good, host, 405),
            ("another method with a bad list", "PUT", "/-update-backends?backends=x", host, 405),
            ("HEAD", "HEAD", good, host, 405),
            ("OPTIONS", "OPTIONS", good, host, 405),
            ("a method in lower case", "post", good, host, 405),
            ("no list", "POST", "/-update-backends", host, 400),
            ("a change", "POST", "/backends?add=http://a", host, 200),
            ("a change by a stranger", "POST", "/backends?add=http://a", via, 403),
            ("a bad change", "POST", "/backends?pause=x", host, 404),
            ("another method for the list", "PUT", "/backends", host, 405),
            ("a slash behind it", "GET", "/backends/", host, 404),
        ];
        for (label, method, target, fields, expected) in rows {
            let (admin, replaced) = admin(None);
            let status = match admin.answer(&request(method, target, fields, b"")) {
                Ok(reply) => reply.status,
                Err(refusal) => refusal.status(),
            };
            assert_eq!(status, expected, "{label}");
            assert_eq!(*replaced.lock().expect("no panic"), usize::from(expected == 200), "{label}");
        }
    }

    #[test]
    fn only_post_updates() {
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "POSTS"] {
            let (admin, replaced) = admin(None);
            let request = request(method, "/update-backends?backends=http://a", &[("host", "localhost")], b"");
            let reply = admin.answer(&request).unwrap_or_else(|refusal| refusal.reply());
            assert_eq!((reply.status.as_u16(), reply.headers["allow"].as_bytes()), (405, &b"POST"[..]), "{method}");
            assert!(matches!(reply.body, ReplyBody::Whole(text) if text == b"Invalid request method\n"), "{method}");
            assert_eq!(*replaced.lock().expect("no panic"), 0, "{method}");
        }
    }

    #[test]
    fn views_are_shown_to_those_who_may_update_also_while_it_stops() {
        let host: &[_] = &[("host", "localhost")];
        let via: &[_] = &[("host", "localhost"), ("via", "1.1 other")];
        let rows = [
            ("Prometheus", "GET", "/metrics", host, 200),
            ("HEAD", "HEAD", "/metrics", host, 200),
            ("with a query", "GET", "/metrics?x", host, 200),
            ("POST", "POST", "/metrics", host, 405),
            ("a stranger", "GET", "/metrics", via, 403),
            ("a stranger's POST", "POST", "/metrics", via, 403),
            ("a slash behind it", "GET", "/metrics/", host, 404),
            ("races", "GET", "/races?n=5", host, 200),
            ("races, to a stranger", "GET", "/races", via, 403),
            ("a race, to a stranger", "GET", "/races/x", via, 403),
            ("no race", "GET", "/races/x", host, 404),
            ("no id", "GET", "/races/", host, 404),
        ];
        for (label, method, target, fields, expected) in rows {
            let (admin, replaced) = admin(None);
            for _ in 0..2 {
                let status = match admin.answer(&request(method, target, fields, b"")) {
                    Ok(reply) => reply.status,
                    Err(refusal) => refusal.status(),
                };
                assert_eq!(status, expected, "{label}");
                admin.stop();
            }
            assert_eq!(*replaced.lock().expect("no panic"), 0, "{label}");
        }
    }

    #[test]
    fn a_body_is_taken_only_if_its_head_is_good() {
        let (admin, _) = admin(None);
        let host: &[_] = &[("host", "localhost")];
        let rows = [
            ("an update", "POST", "/-update-backends", host, true),
            ("a stranger's", "POST", "/-update-backends", &[("host", "evil.example")], false),
            ("another method", "PUT", "/-update-backends", host, false),
            ("another path", "POST", "/", host, false),
            ("a change", "POST", "/backends", host, true),
            ("a stranger's change", "POST", "/backends", &[("host", "evil.example")], false),
            ("a probe, oddly", "GET", "/healthz", host, true),
            ("no probe", "POST", "/healthz", host, false),
        ];
        for (label, method, target, fields, expected) in rows {
            assert_eq!(admin.wants_body(&request(method, target, fields, b"")), expected, "{label}");
        }
        admin.stop();
        assert!(!admin.wants_body(&request("POST", "/-update-backends", host, b"")), "the list would be lost");
    }

    #[test]
    fn a_list_that_would_be_lost_is_refused() {
        let (admin, replaced) = admin(None);
        admin.stop();
        let update = request("POST", "/-update-backends?backends=http://a", &[("host", "localhost")], b"");
        assert_eq!(admin.answer(&update).err(), Some(Refusal::Stopping));
        assert_eq!(*replaced.lock().expect("no panic"), 0);
    }

    #[test]
    fn the_list_can_be_read_to_the_end_but_not_changed() {
        let (admin, _) = admin(None);
        let ask = |method| admin.answer(&request(method, "/backends", &[("host", "localhost")], b"pause=b1"));
        admin.stop();
        assert_eq!(ask("GET").map(|reply| reply.status.as_u16()).ok(), Some(200));
        assert_eq!(ask("POST").err(), Some(Refusal::Stopping));
    }

    #[test]
    fn a_refusal_is_json_where_that_is_asked_for() {
        let (admin, _) = admin(None);
        let accept: &[_] = &[("host", "localhost"), ("accept", "application/json")];
        let rows = [
            ("/backends", accept, "application/problem+json"),
            ("/backends", &accept[..1], "text/plain; charset=utf-8"),
            ("/-update-backends", accept, "text/plain; charset=utf-8"),
        ];
        for (target, fields, media_type) in rows {
            let request = request("PUT", target, fields, b"");
            let refusal = admin.answer(&request).err().expect("PUT is no method of it");
            let reply = admin.refused(&request, &refusal);
            assert_eq!(
                (reply.status.as_u16(), reply.headers["content-type"].to_str().ok()),
                (405, Some(media_type)),
                "{target}"
            );
            assert!(reply.headers.contains_key("allow"), "{target}");
        }
    }

    #[test]
    fn a_token_is_asked_for_before_the_method() {
        let (admin, replaced) = admin(Some("secret"));
        let without = request("GET", "/update-backends", &[("host", "localhost")], b"");
        assert_eq!(admin.answer(&without).err().map(|refusal| refusal.status().as_u16()), Some(403));
        let target = "/update-backends?backends=http://a";
        let with = request("POST", target, &[("authorization", "Bearer secret")], b"");
        assert_eq!(admin.answer(&with).map(|reply| reply.status.as_u16()).ok(), Some(200));
        assert_eq!(*replaced.lock().expect("no panic"), 1);
    }
}
