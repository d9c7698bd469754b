//! The backends of a run: one process, one thread, epoll, many listeners.
//!
//!   backend [--admin PORT] [--cert FILE] SPEC...
//!   SPEC = PORT[:key[=value]]...
//!     status=200      status code of the reply
//!     size=1024       body bytes ("backend PORT\n" then filler)
//!     delay=MS        fixed delay          delay=expMS   exponential, mean MS
//!     hang            accept and read, never answer
//!     chunked         Transfer-Encoding: chunked reply
//!     echo            body = request body (buffered)
//!     dump            body = request head as received
//!     close           close after each reply (Connection: close)
//!     tls             speak TLS; FILE gets the certificate to trust
//!     reset           close the connection without an answer after the request
//!
//! GET / on the admin port answers the counters of all listeners as JSON;
//! GET /reset zeroes them.
mod tls;

use std::collections::BinaryHeap;
use std::os::raw::c_int;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use tls::Tls;

#[derive(Clone, Copy, PartialEq)]
enum Delay {
    None,
    Fixed(f64),
    Exp(f64),
}

#[derive(Default, Clone, Copy)]
struct Stats {
    accepted: u64,
    open: i64,
    requests: u64,
    replies: u64,
    aborted: u64,
    bytes_in: u64,
    body_sum: u64,
    max_open: i64,
}

struct Listener {
    port: u16,
    fd: c_int,
    admin: bool,
    status: u16,
    delay: Delay,
    hang: bool,
    echo: bool,
    dump: bool,
    close: bool,
    reset: bool,
    tls: bool,
    head: Vec<u8>,
    body: Vec<u8>,
    whole: Vec<u8>, // head + body, prebuilt
    st: Stats,
}

#[derive(PartialEq, Clone, Copy, Debug)]
enum Phase {
    Head,
    Body,    // content-length body, `need` bytes to go
    Chunked, // chunked body
    Pending, // reply delayed (or hanging)
    Writing,
}

struct Conn {
    fd: c_int,
    lis: usize,
    gen: u64,
    phase: Phase,
    buf: Vec<u8>, // unparsed input
    need: usize,
    keep: bool,
    head_req: bool,
    out: Option<Vec<u8>>, // dynamic reply, else the listener's prebuilt one
    out_limit: usize,
    off: usize,
    want_out: bool,
    req_body: Vec<u8>,
    req_head: Vec<u8>,
    tls: Option<Box<Tls>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Timer(std::cmp::Reverse<(u64, c_int, u64)>);

fn reason(s: u16) -> &'static str {
    match s {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        302 => "Found",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

fn sum(b: &[u8]) -> u64 {
    b.iter().map(|&w| w as u64).sum()
}

fn err() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn die(m: &str) -> ! {
    eprintln!("backend: {m}: {}", std::io::Error::last_os_error());
    std::process::exit(1)
}

fn listen(port: u16) -> c_int {
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            die("socket")
        }
        let one: c_int = 1;
        let p = &one as *const _ as *const libc::c_void;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, p, 4);
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, p, 4); // inherited
        let mut a: libc::sockaddr_in = std::mem::zeroed();
        a.sin_family = libc::AF_INET as u16;
        a.sin_port = port.to_be();
        a.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        if libc::bind(fd, &a as *const _ as *const libc::sockaddr, 16) != 0 {
            die(&format!("bind {port}"))
        }
        if libc::listen(fd, 4096) != 0 {
            die("listen")
        }
        fd
    }
}

fn parse_spec(s: &str) -> Listener {
    let mut it = s.split(':');
    let port: u16 = it.next().unwrap().parse().expect("port");
    let (mut status, mut size, mut delay) = (200u16, 1024usize, Delay::None);
    let (mut hang, mut chunked, mut echo, mut dump, mut close, mut reset, mut tls) =
        (false, false, false, false, false, false, false);
    for kv in it {
        let (k, v) = kv.split_once('=').unwrap_or((kv, ""));
        match k {
            "status" => status = v.parse().expect("status"),
            "size" => size = v.parse().expect("size"),
            "delay" => {
                delay = match v.strip_prefix("exp") {
                    Some(m) => Delay::Exp(m.parse().expect("delay")),
                    None => Delay::Fixed(v.parse().expect("delay")),
                }
            }
            "hang" => hang = true,
            "chunked" => chunked = true,
            "echo" => echo = true,
            "dump" => dump = true,
            "close" => close = true,
            "reset" => reset = true,
            "tls" => tls = true,
            _ => {
                eprintln!("backend: unknown key {k}");
                std::process::exit(2)
            }
        }
    }
    let mut body = format!("backend {port}\n").into_bytes();
    let mut x = port as u32;
    while body.len() < size {
        x = x.wrapping_mul(1664525).wrapping_add(1013904223);
        body.push(b'a' + ((x >> 24) % 26) as u8);
    }
    body.truncate(size);
    if status == 204 {
        body.clear()
    }
    let conn = if close { "Connection: close\r\n" } else { "" };
    let mut head =
        format!("HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nX-Backend: {port}\r\n{conn}", reason(status))
            .into_bytes();
    if status == 302 {
        head.extend_from_slice(b"Location: /elsewhere\r\n");
    }
    let mut whole;
    if chunked {
        whole = head.clone();
        whole.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for c in body.chunks(16384) {
            whole.extend_from_slice(format!("{:x}\r\n", c.len()).as_bytes());
            whole.extend_from_slice(c);
            whole.extend_from_slice(b"\r\n");
        }
        whole.extend_from_slice(b"0\r\n\r\n");
    } else {
        whole = head.clone();
        if status != 204 {
            whole.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        whole.extend_from_slice(b"\r\n");
        whole.extend_from_slice(&body);
    }
    Listener {
        port,
        fd: listen(port),
        admin: false,
        status,
        delay,
        hang,
        echo,
        dump,
        close,
        reset,
        tls,
        head,
        body,
        whole,
        st: Stats::default(),
    }
}

fn find_head_end(b: &[u8]) -> Option<usize> {
    let mut i = 0;
    while i + 3 < b.len() {
        match b[i + 3] {
            b'\n' => {
                if &b[i..i + 4] == b"\r\n\r\n" {
                    return Some(i + 4);
                }
                i += 1
            }
            b'\r' => i += 1,
            _ => i += 4,
        }
    }
    None
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    for l in head.split(|&c| c == b'\n').skip(1) {
        if l.len() > name.len() && l[name.len()] == b':' && l[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            return Some(l[name.len() + 1..].trim_ascii());
        }
    }
    None
}

struct Srv {
    ep: c_int,
    lis: Vec<Listener>,
    conns: Vec<Option<Box<Conn>>>,
    timers: BinaryHeap<Timer>,
    t0: Instant,
    rng: u64,
    gen: u64,
    scratch: Vec<u8>,
    plain: Vec<u8>,
    config: Option<Arc<ServerConfig>>,
}

impl Srv {
    fn now_us(&self) -> u64 {
        self.t0.elapsed().as_micros() as u64
    }
    fn rand(&mut self) -> f64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        ((self.rng >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
    fn close(&mut self, fd: c_int) {
        if let Some(c) = self.conns[fd as usize].take() {
            let st = &mut self.lis[c.lis].st;
            st.open -= 1;
            if matches!(c.phase, Phase::Pending | Phase::Writing) {
                st.aborted += 1
            }
            unsafe { libc::close(fd) };
        }
    }
    fn accept(&mut self, li: usize) {
        loop {
            let fd = unsafe {
                libc::accept4(
                    self.lis[li].fd,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                )
            };
            if fd < 0 {
                return;
            }
            self.gen += 1;
            let st = &mut self.lis[li].st;
            st.accepted += 1;
            st.open += 1;
            st.max_open = st.max_open.max(st.open);
            while self.conns.len() <= fd as usize {
                self.conns.push(None)
            }
            let config = self.config.as_ref().filter(|_| self.lis[li].tls);
            let tls = config.map(|config| Box::new(Tls::new(config.clone())));
            self.conns[fd as usize] = Some(Box::new(Conn {
                fd,
                lis: li,
                gen: self.gen,
                phase: Phase::Head,
                buf: Vec::new(),
                need: 0,
                keep: true,
                head_req: false,
                out: None,
                out_limit: 0,
                off: 0,
                want_out: false,
                req_body: Vec::new(),
                req_head: Vec::new(),
                tls,
            }));
            self.epoll(fd, libc::EPOLL_CTL_ADD, libc::EPOLLIN);
        }
    }
    fn epoll(&self, fd: c_int, op: c_int, ev: c_int) {
        let mut e = libc::epoll_event { events: ev as u32, u64: fd as u64 };
        unsafe { libc::epoll_ctl(self.ep, op, fd, &mut e) };
    }
    fn readable(&mut self, fd: c_int) {
        // Returns after one read: level-triggered, so the rest is reported again.
        let n = unsafe { libc::read(fd, self.scratch.as_mut_ptr() as *mut libc::c_void, self.scratch.len()) };
        if n == 0 || (n < 0 && err() != libc::EAGAIN && err() != libc::EINTR) {
            return self.close(fd);
        }
        if n < 0 {
            return;
        }
        let Some(mut c) = self.conns[fd as usize].take() else {
            return;
        };
        let mut data = &self.scratch[..n as usize];
        if let Some(tls) = &mut c.tls {
            self.plain.clear();
            if tls.receive(fd, data, &mut self.plain).is_err() {
                self.conns[fd as usize] = Some(c);
                return self.close(fd);
            }
            data = &self.plain;
        }
        self.lis[c.lis].st.bytes_in += n as u64;
        // Fast path for bodies: no copy into buf.
        if c.phase == Phase::Body && c.buf.is_empty() {
            let k = data.len().min(c.need);
            self.lis[c.lis].st.body_sum += sum(&data[..k]);
            if self.lis[c.lis].echo {
                c.req_body.extend_from_slice(&data[..k]);
            }
            c.need -= k;
            c.buf.extend_from_slice(&data[k..]);
        } else {
            c.buf.extend_from_slice(data);
        }
        self.conns[fd as usize] = Some(c);
        self.advance(fd);
    }
    fn advance(&mut self, fd: c_int) {
        loop {
            let Some(mut c) = self.conns[fd as usize].take() else {
                return;
            };
            let li = c.lis;
            match c.phase {
                Phase::Head => {
                    let Some(e) = find_head_end(&c.buf) else {
                        self.conns[fd as usize] = Some(c);
                        return;
                    };
                    let head: Vec<u8> = c.buf.drain(..e).collect();
                    self.lis[li].st.requests += 1;
                    c.head_req = head.starts_with(b"HEAD ");
                    c.keep = !self.lis[li].close
                        && !head.windows(9).take(256).any(|w| w == b"HTTP/1.0\r")
                        && !header(&head, "connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
                    let expect = header(&head, "expect").is_some();
                    c.req_body.clear();
                    if header(&head, "transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().ends_with(b"chunked"))
                    {
                        c.phase = Phase::Chunked;
                    } else {
                        c.need = header(&head, "content-length")
                            .and_then(|v| std::str::from_utf8(v).ok())
                            .and_then(|v| v.parse().ok())
                            .unwrap_or(0);
                        c.phase = Phase::Body;
                        let k = c.buf.len().min(c.need);
                        if k > 0 {
                            let b: Vec<u8> = c.buf.drain(..k).collect();
                            self.lis[li].st.body_sum += sum(&b);
                            if self.lis[li].echo {
                                c.req_body.extend_from_slice(&b)
                            }
                            c.need -= k;
                        }
                    }
                    if self.lis[li].dump || self.lis[li].admin {
                        c.req_head = head;
                    }
                    if expect && (c.need > 0 || c.phase == Phase::Chunked) {
                        let m = b"HTTP/1.1 100 Continue\r\n\r\n";
                        unsafe { libc::write(fd, m.as_ptr() as *const _, m.len()) };
                    }
                    self.conns[fd as usize] = Some(c);
                }
                Phase::Body => {
                    if c.need > 0 {
                        self.conns[fd as usize] = Some(c);
                        return;
                    }
                    if self.begin_reply(c) {
                        return;
                    }
                }
                Phase::Chunked => {
                    // one chunk at a time
                    let mut done = false;
                    loop {
                        let Some(nl) = c.buf.iter().position(|&b| b == b'\n') else {
                            break;
                        };
                        let line = std::str::from_utf8(&c.buf[..nl]).unwrap_or("0").trim();
                        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap_or(0);
                        if c.buf.len() < nl + 1 + size + 2 {
                            break;
                        }
                        let b: Vec<u8> = c.buf[nl + 1..nl + 1 + size].to_vec();
                        c.buf.drain(..nl + 1 + size + 2);
                        self.lis[li].st.body_sum += sum(&b);
                        if self.lis[li].echo {
                            c.req_body.extend_from_slice(&b)
                        }
                        if size == 0 {
                            done = true;
                            break;
                        }
                    }
                    if !done {
                        self.conns[fd as usize] = Some(c);
                        return;
                    }
                    if self.begin_reply(c) {
                        return;
                    }
                }
                Phase::Pending => {
                    self.conns[fd as usize] = Some(c);
                    return;
                }
                Phase::Writing => {
                    self.conns[fd as usize] = Some(c);
                    if !self.write(fd) {
                        return;
                    }
                }
            }
        }
    }
    /// The request is complete. True when there is nothing more to do now.
    fn begin_reply(&mut self, mut c: Box<Conn>) -> bool {
        let fd = c.fd;
        let li = c.lis;
        if self.lis[li].reset {
            self.conns[fd as usize] = Some(c);
            self.close(fd);
            return true;
        }
        let delay = self.lis[li].delay;
        let us = match delay {
            Delay::None => 0,
            Delay::Fixed(ms) => (ms * 1000.0) as u64,
            Delay::Exp(ms) => (-self.rand().ln() * ms * 1000.0) as u64,
        };
        if self.lis[li].hang {
            c.phase = Phase::Pending;
            self.conns[fd as usize] = Some(c);
            return true;
        }
        if us > 0 {
            c.phase = Phase::Pending;
            let at = self.now_us() + us;
            self.timers.push(Timer(std::cmp::Reverse((at, fd, c.gen))));
            self.conns[fd as usize] = Some(c);
            return true;
        }
        self.conns[fd as usize] = Some(c);
        self.start_write(fd);
        false
    }
    fn start_write(&mut self, fd: c_int) {
        let admin_body = if self.lis[self.conns[fd as usize].as_ref().unwrap().lis].admin {
            let c = self.conns[fd as usize].as_ref().unwrap();
            if c.req_head.starts_with(b"GET /reset") {
                for l in &mut self.lis {
                    l.st = Stats { open: l.st.open, max_open: l.st.open, ..Stats::default() }
                }
            }
            let rows: Vec<String> = self
                .lis
                .iter()
                .filter(|l| !l.admin)
                .map(|l| {
                    let s = &l.st;
                    format!(
                        "{{\"port\":{},\"accepted\":{},\"open\":{},\"max_open\":{},\"requests\":{},\"replies\":{},\"aborted\":{},\"bytes_in\":{},\"body_sum\":{}}}",
                        l.port, s.accepted, s.open, s.max_open, s.requests, s.replies, s.aborted, s.bytes_in, s.body_sum
                    )
                })
                .collect();
            Some(format!("[{}]\n", rows.join(",")).into_bytes())
        } else {
            None
        };
        let c = self.conns[fd as usize].as_mut().unwrap();
        let l = &mut self.lis[c.lis];
        l.st.replies += 1;
        c.phase = Phase::Writing;
        c.off = 0;
        c.out = None;
        let dynamic = if l.echo {
            Some(std::mem::take(&mut c.req_body))
        } else if l.dump {
            Some(c.req_head.clone())
        } else {
            admin_body
        };
        if dynamic.is_none() && !c.keep && !l.close {
            let e = find_head_end(&l.whole).unwrap();
            let mut o = l.whole[..e - 2].to_vec();
            o.extend_from_slice(b"Connection: close\r\n\r\n");
            c.out_limit = o.len();
            if !c.head_req {
                o.extend_from_slice(&l.whole[e..]);
                c.out_limit = o.len();
            }
            c.out = Some(o);
            return;
        }
        if let Some(b) = dynamic {
            let mut o = l.head.clone();
            o.extend_from_slice(format!("Content-Length: {}\r\n\r\n", b.len()).as_bytes());
            c.out_limit = o.len();
            o.extend_from_slice(&b);
            if !c.head_req {
                c.out_limit = o.len()
            }
            c.out = Some(o);
        } else {
            c.out_limit = if c.head_req { find_head_end(&l.whole).unwrap() } else { l.whole.len() };
        }
        let _ = (&l.body, l.status);
    }
    /// True when the reply is out and the connection is ready for the next request.
    fn write(&mut self, fd: c_int) -> bool {
        loop {
            let Some(c) = self.conns[fd as usize].as_mut() else {
                return false;
            };
            let src: &[u8] = match &c.out {
                Some(o) => o,
                None => &self.lis[c.lis].whole,
            };
            let b = &src[c.off..c.out_limit];
            let is_sent = b.is_empty() && c.tls.as_mut().is_none_or(|tls| tls.flush(fd).unwrap_or(true));
            if is_sent {
                c.phase = Phase::Head;
                c.out = None;
                let keep = c.keep;
                if c.want_out {
                    c.want_out = false;
                    self.epoll(fd, libc::EPOLL_CTL_MOD, libc::EPOLLIN);
                }
                if !keep {
                    self.close(fd);
                    return false;
                }
                return true;
            }
            let (n, e) = match &mut c.tls {
                Some(tls) => match tls.send(fd, b) {
                    Ok(n) => (n as isize, 0),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => (-1, libc::EAGAIN),
                    Err(_) => (-1, libc::EPIPE),
                },
                None => {
                    let p = b.as_ptr() as *const libc::c_void;
                    let n = unsafe { libc::send(fd, p, b.len(), libc::MSG_NOSIGNAL) };
                    (n, if n < 0 { err() } else { 0 })
                }
            };
            if n < 0 {
                match e {
                    libc::EAGAIN => {
                        if !c.want_out {
                            c.want_out = true;
                            self.epoll(fd, libc::EPOLL_CTL_MOD, libc::EPOLLIN | libc::EPOLLOUT);
                        }
                        return false;
                    }
                    libc::EINTR => continue,
                    _ => {
                        self.close(fd);
                        return false;
                    }
                }
            }
            c.off += n as usize;
        }
    }
}

fn main() {
    unsafe {
        let mut r: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut r);
        r.rlim_cur = r.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &r);
    }
    let mut lis = Vec::new();
    let mut cert = None;
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        if a == "--admin" {
            let mut l = parse_spec(&args.next().expect("--admin PORT"));
            l.admin = true;
            lis.push(l);
        } else if a == "--cert" {
            cert = args.next();
        } else {
            lis.push(parse_spec(&a));
        }
    }
    let config = lis.iter().any(|l| l.tls).then(|| tls::config(&cert.expect("--cert FILE")));
    if lis.is_empty() {
        eprintln!("usage: backend [--admin PORT] [--cert FILE] PORT[:status=200][:size=1024][:delay=MS|expMS][:hang][:chunked][:echo][:dump][:close][:reset][:tls]...");
        std::process::exit(2);
    }
    let ep = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut s = Srv {
        ep,
        lis,
        conns: Vec::new(),
        timers: BinaryHeap::new(),
        t0: Instant::now(),
        rng: 0x9E3779B97F4A7C15 ^ std::process::id() as u64,
        gen: 0,
        scratch: vec![0; 256 * 1024],
        plain: Vec::new(),
        config,
    };
    for l in &s.lis {
        s.epoll(l.fd, libc::EPOLL_CTL_ADD, libc::EPOLLIN);
    }
    let maxl = s.lis.iter().map(|l| l.fd).max().unwrap();
    let mut lidx = vec![usize::MAX; maxl as usize + 1];
    for (i, l) in s.lis.iter().enumerate() {
        lidx[l.fd as usize] = i;
    }
    let tfd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    s.epoll(tfd, libc::EPOLL_CTL_ADD, libc::EPOLLIN);
    let mut armed: u64 = 0;
    let mut evs: Vec<libc::epoll_event> = vec![unsafe { std::mem::zeroed() }; 512];
    loop {
        // (re)arm the timer for the earliest deadline
        if let Some(Timer(std::cmp::Reverse((at, _, _)))) = s.timers.peek() {
            if armed == 0 || *at < armed {
                armed = *at;
                let d = at.saturating_sub(s.now_us()).max(1);
                let its = libc::itimerspec {
                    it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
                    it_value: libc::timespec {
                        tv_sec: (d / 1_000_000) as i64,
                        tv_nsec: ((d % 1_000_000) * 1000) as i64,
                    },
                };
                unsafe { libc::timerfd_settime(tfd, 0, &its, std::ptr::null_mut()) };
            }
        }
        let n = unsafe { libc::epoll_wait(ep, evs.as_mut_ptr(), evs.len() as c_int, -1) };
        if n < 0 {
            if err() == libc::EINTR {
                continue;
            }
            die("epoll_wait")
        }
        for i in 0..n as usize {
            let (fd, ev) = (evs[i].u64 as c_int, evs[i].events as c_int);
            if fd == tfd {
                let mut b = 0u64;
                unsafe { libc::read(tfd, &mut b as *mut _ as *mut libc::c_void, 8) };
                armed = 0;
                continue;
            }
            if (fd as usize) < lidx.len() && lidx[fd as usize] != usize::MAX {
                s.accept(lidx[fd as usize]);
                continue;
            }
            if s.conns.get(fd as usize).is_none_or(|c| c.is_none()) {
                continue;
            }
            if ev & libc::EPOLLOUT != 0 {
                s.advance(fd);
                if s.conns[fd as usize].is_none() {
                    continue;
                }
            }
            if ev & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                s.readable(fd);
            }
        }
        let now = s.now_us();
        while let Some(Timer(std::cmp::Reverse((at, fd, gen)))) = s.timers.peek() {
            if *at > now {
                break;
            }
            let (fd, gen) = (*fd, *gen);
            s.timers.pop();
            let live = s
                .conns
                .get(fd as usize)
                .and_then(|c| c.as_ref())
                .is_some_and(|c| c.gen == gen && c.phase == Phase::Pending);
            if live {
                s.start_write(fd);
                s.advance(fd);
            }
        }
    }
}
