//! The async reference: hyper 1 server + hyper-util legacy client pool,
//! FuturesUnordered over the backends, first 2xx wins, response body streamed.
//!
//! LOSERS=drop (default): unfinished losers are dropped with the winner's reply, which
//!   closes their HTTP/1 connections.
//! LOSERS=drain: losers move to a background task and may finish for LOSER_GRACE_MS
//!   (default 1000), so that their connections go back to the pool.
//!
//! env: BACKEND_SERVERS, LISTEN, BACKEND_TIMEOUT_MS, LOSERS, LOSER_GRACE_MS; SSL_CERT_FILE for https backends;
//!   TLS_CERT_FILE, with certificate and key, for https clients
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HOST};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

type Out = Either<Incoming, Full<Bytes>>;

#[derive(Clone)]
struct Backend {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

struct State<C> {
    client: Client<C, Full<Bytes>>,
    backends: RwLock<Arc<Vec<Backend>>>,
    timeout: Duration,
    drain: bool,
    grace: Duration,
}

fn parse(s: &str) -> Vec<Backend> {
    s.split(',')
        .map(str::trim)
        .filter(|b| !b.is_empty())
        .filter_map(|b| {
            let b = if b.contains("://") { b.to_string() } else { format!("http://{b}") };
            let u: Uri = b.parse().ok()?;
            Some(Backend {
                scheme: u.scheme()?.clone(),
                authority: u.authority()?.clone(),
                prefix: u.path().trim_end_matches('/').to_string(),
            })
        })
        .collect()
}

fn strip(h: &mut HeaderMap) {
    for k in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    ] {
        h.remove(HeaderName::from_static(k));
    }
}

fn text(code: StatusCode, s: &'static str) -> Response<Out> {
    let mut r = Response::new(Either::Right(Full::new(Bytes::from_static(s.as_bytes()))));
    *r.status_mut() = code;
    r
}

async fn handle<C>(req: Request<Incoming>, st: Arc<State<C>>) -> Result<Response<Out>, Infallible>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let (mut parts, body) = req.into_parts();
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        match body.collect().await {
            Ok(b) => b.to_bytes(),
            Err(_) => return Ok(text(StatusCode::BAD_REQUEST, "bad body\n")),
        }
    };
    if parts.method == Method::POST && parts.uri.path() == "/_backends" {
        *st.backends.write().unwrap() = Arc::new(parse(&String::from_utf8_lossy(&body)));
        return Ok(text(StatusCode::NO_CONTENT, ""));
    }
    strip(&mut parts.headers);
    parts.headers.remove(HOST);
    let list = st.backends.read().unwrap().clone();
    let pq = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut race = FuturesUnordered::new();
    for b in list.iter() {
        let mut up = hyper::http::uri::Parts::default();
        up.scheme = Some(b.scheme.clone());
        up.authority = Some(b.authority.clone());
        up.path_and_query = Some(if b.prefix.is_empty() {
            pq.clone()
        } else {
            match format!("{}{}", b.prefix, pq).parse() {
                Ok(p) => p,
                Err(_) => continue,
            }
        });
        let Ok(uri) = Uri::from_parts(up) else { continue };
        let mut r = Request::new(Full::new(body.clone()));
        *r.method_mut() = parts.method.clone();
        *r.uri_mut() = uri;
        *r.headers_mut() = parts.headers.clone();
        let st = st.clone();
        race.push(async move {
            match tokio::time::timeout(st.timeout, st.client.request(r)).await {
                Ok(Ok(resp)) if resp.status().is_success() => Some(resp),
                Ok(Ok(resp)) => {
                    // read the error page, so that the connection can be reused
                    let _ = Limited::new(resp.into_body(), 256 * 1024).collect().await;
                    None
                }
                _ => None,
            }
        });
    }
    while let Some(r) = race.next().await {
        if let Some(resp) = r {
            if st.drain && !race.is_empty() {
                let grace = st.grace;
                tokio::spawn(tokio::time::timeout(grace, async move {
                    while let Some(r) = race.next().await {
                        if let Some(resp) = r {
                            let _ = Limited::new(resp.into_body(), 256 * 1024).collect().await;
                        }
                    }
                }));
            }
            let (mut p, b) = resp.into_parts();
            strip(&mut p.headers);
            return Ok(Response::from_parts(p, Either::Left(b)));
        }
    }
    Ok(text(StatusCode::BAD_GATEWAY, "no backend answered\n"))
}

fn num(k: &str, d: u64) -> u64 {
    std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d)
}

/// TLS with the certificates in SSL_CERT_FILE, and no others.
fn trusting_the_file() -> ClientConfig {
    let file = std::env::var("SSL_CERT_FILE").expect("SSL_CERT_FILE, for https backends");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).expect("SSL_CERT_FILE") {
        roots.add(certificate.expect("a certificate")).expect("a root");
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// TLS with the certificate and the key in TLS_CERT_FILE, if it is set.
fn acceptor() -> Option<TlsAcceptor> {
    let file = std::env::var("TLS_CERT_FILE").ok()?;
    let chain = CertificateDer::pem_file_iter(&file).expect("TLS_CERT_FILE");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&file).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    Some(Arc::new(config.expect("a certificate and its key")).into())
}

async fn answer<S, C>(s: S, st: Arc<State<C>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Connect + Clone + Send + Sync + 'static,
{
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(s), service_fn(move |r| handle(r, st.clone())))
        .await;
}

async fn serve<C>(conn: C, backends: Vec<Backend>)
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(512)
        .build(conn);
    let st = Arc::new(State {
        client,
        backends: RwLock::new(Arc::new(backends)),
        timeout: Duration::from_millis(num("BACKEND_TIMEOUT_MS", 5000)),
        drain: std::env::var("LOSERS").is_ok_and(|v| v == "drain"),
        grace: Duration::from_millis(num("LOSER_GRACE_MS", 1000)),
    });
    let acceptor = acceptor();
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let l = tokio::net::TcpListener::bind(listen).await.expect("listen");
    loop {
        let Ok((s, _)) = l.accept().await else { continue };
        let _ = s.set_nodelay(true);
        let (st, acceptor) = (st.clone(), acceptor.clone());
        tokio::spawn(async move {
            let Some(acceptor) = acceptor else { return answer(s, st).await };
            if let Ok(s) = acceptor.accept(s).await {
                answer(s, st).await
            }
        });
    }
}

fn main() {
    // A worker for each core that it may use.
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let backends = parse(&std::env::var("BACKEND_SERVERS").unwrap_or_default());
    let mut conn = HttpConnector::new();
    conn.set_nodelay(true);
    conn.set_connect_timeout(Some(Duration::from_millis(num("BACKEND_TIMEOUT_MS", 5000))));
    if backends.iter().any(|b| b.scheme == Scheme::HTTPS) {
        conn.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(trusting_the_file());
        rt.block_on(serve(tls.https_or_http().enable_http1().wrap_connector(conn), backends))
    } else {
        rt.block_on(serve(conn, backends))
    }
}
