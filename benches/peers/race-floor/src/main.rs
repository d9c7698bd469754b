//! An anchor, not a proxy: the practical limit of racing on a machine.
//! THREADS epoll loops (SO_REUSEPORT), no allocation per request, parses only the end of the
//! head, status code and content-length; requests without body, replies with content-length.
//! The first whole 2xx reply goes to the client, the others are read off and discarded. It never hangs up on a leg.
use std::net::SocketAddr;
use std::os::raw::{c_int, c_void};

struct Client {
    fd: c_int,
    buf: Vec<u8>,
    race: u64,  // counts this client's requests; legs carry the number they run for
    open: bool, // a race is on and not won
    left: usize,
}

struct Leg {
    fd: c_int,
    backend: usize,
    client: usize,
    race: u64,
    busy: bool,
    buf: Vec<u8>,
    n: usize,
    need: usize, // whole reply length, once the head is in
}

struct Backend {
    host: Vec<u8>,
    addr: libc::sockaddr_in,
    idle: Vec<usize>,
}

fn sockaddr(a: &SocketAddr) -> libc::sockaddr_in {
    unsafe {
        let mut s: libc::sockaddr_in = std::mem::zeroed();
        s.sin_family = libc::AF_INET as u16;
        s.sin_port = a.port().to_be();
        if let SocketAddr::V4(v) = a {
            s.sin_addr.s_addr = u32::from_ne_bytes(v.ip().octets());
        }
        s
    }
}
fn opt(fd: c_int, level: c_int, name: c_int) {
    let one: c_int = 1;
    unsafe { libc::setsockopt(fd, level, name, &one as *const _ as *const c_void, 4) };
}
fn add(ep: c_int, fd: c_int, data: u64) {
    let mut e = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
    unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, fd, &mut e) };
}
fn send(fd: c_int, b: &[u8]) -> isize {
    unsafe { libc::send(fd, b.as_ptr() as *const c_void, b.len(), libc::MSG_NOSIGNAL) }
}
fn find(b: &[u8], n: &[u8]) -> Option<usize> {
    b.windows(n.len()).position(|w| w == n)
}
fn find_ci(b: &[u8], n: &[u8]) -> Option<usize> {
    b.windows(n.len()).position(|w| w.eq_ignore_ascii_case(n))
}

const CLIENT: u64 = 1 << 40;
const LEG: u64 = 2 << 40;

fn run(listen: SocketAddr, urls: &[String]) {
    unsafe {
        let ep = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let ls = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        opt(ls, libc::SOL_SOCKET, libc::SO_REUSEADDR);
        opt(ls, libc::SOL_SOCKET, libc::SO_REUSEPORT);
        opt(ls, libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let a = sockaddr(&listen);
        assert!(libc::bind(ls, &a as *const _ as *const libc::sockaddr, 16) == 0, "bind");
        assert!(libc::listen(ls, 4096) == 0, "listen");
        add(ep, ls, 0);
        let mut backends: Vec<Backend> = urls
            .iter()
            .map(|u| {
                let h = u.trim_start_matches("http://").trim_end_matches('/');
                Backend {
                    host: h.as_bytes().to_vec(),
                    addr: sockaddr(&h.parse().expect("backend ip:port")),
                    idle: vec![],
                }
            })
            .collect();
        let mut clients: Vec<Client> = vec![];
        let mut free: Vec<usize> = vec![];
        let mut legs: Vec<Leg> = vec![];
        let mut evs: [libc::epoll_event; 256] = std::mem::zeroed();
        let mut out: Vec<u8> = Vec::with_capacity(4096);
        loop {
            let n = libc::epoll_wait(ep, evs.as_mut_ptr(), 256, -1);
            for k in 0..n.max(0) as usize {
                let d = evs[k].u64;
                let i = (d & 0xffff_ffff) as usize;
                if d == 0 {
                    loop {
                        let fd = libc::accept4(
                            ls,
                            std::ptr::null_mut(),
                            std::ptr::null_mut(),
                            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                        );
                        if fd < 0 {
                            break;
                        }
                        let c = Client { fd, buf: Vec::with_capacity(8192), race: 0, open: false, left: 0 };
                        let i = free.pop().unwrap_or_else(|| {
                            clients.push(Client { fd: -1, buf: vec![], race: 0, open: false, left: 0 });
                            clients.len() - 1
                        });
                        let race = clients[i].race + 1;
                        clients[i] = Client { race, ..c };
                        add(ep, fd, CLIENT | i as u64);
                    }
                } else if d & CLIENT != 0 {
                    let c = &mut clients[i];
                    if c.fd < 0 {
                        continue;
                    }
                    c.buf.reserve(8192);
                    let len = c.buf.len();
                    let r = libc::recv(c.fd, c.buf.as_mut_ptr().add(len) as *mut c_void, c.buf.capacity() - len, 0);
                    if r <= 0 {
                        if r == 0 || *libc::__errno_location() != libc::EAGAIN {
                            libc::close(c.fd);
                            c.fd = -1;
                            c.race += 1;
                            c.open = false;
                            free.push(i);
                        }
                        continue;
                    }
                    c.buf.set_len(len + r as usize);
                    if !c.buf.ends_with(b"\r\n\r\n") {
                        continue; // one GET at a time, without pipelining
                    }
                    c.race += 1;
                    c.open = true;
                    c.left = backends.len();
                    let h = find_ci(&c.buf, b"\r\nhost:").map(|p| p + 7).unwrap_or(0);
                    let e = if h > 0 { h + find(&c.buf[h..], b"\r\n").unwrap() } else { 0 };
                    let race = c.race;
                    for b in 0..backends.len() {
                        let be = &mut backends[b];
                        let l = match be.idle.pop() {
                            Some(l) => l,
                            None => {
                                let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
                                opt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY);
                                if libc::connect(fd, &be.addr as *const _ as *const libc::sockaddr, 16) != 0 {
                                    libc::close(fd);
                                    clients[i].left -= 1;
                                    continue;
                                }
                                libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
                                legs.push(Leg {
                                    fd,
                                    backend: b,
                                    client: 0,
                                    race: 0,
                                    busy: false,
                                    buf: vec![0; 16384],
                                    n: 0,
                                    need: 0,
                                });
                                add(ep, fd, LEG | (legs.len() - 1) as u64);
                                legs.len() - 1
                            }
                        };
                        let c = &clients[i];
                        out.clear();
                        out.extend_from_slice(&c.buf[..h]);
                        if h > 0 {
                            out.push(b' ');
                            out.extend_from_slice(&be.host);
                        }
                        out.extend_from_slice(&c.buf[e..]);
                        let leg = &mut legs[l];
                        leg.client = i;
                        leg.race = race;
                        leg.busy = true;
                        leg.n = 0;
                        leg.need = 0;
                        send(leg.fd, &out);
                    }
                    clients[i].buf.clear();
                    if clients[i].left == 0 {
                        send(clients[i].fd, b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
                    }
                } else if d & LEG != 0 {
                    let l = &mut legs[i];
                    if l.fd < 0 {
                        continue;
                    }
                    if l.n == l.buf.len() {
                        let more = l.buf.len() * 2;
                        l.buf.resize(more, 0);
                    }
                    let r = libc::recv(l.fd, l.buf.as_mut_ptr().add(l.n) as *mut c_void, l.buf.len() - l.n, 0);
                    let mut done = false;
                    let mut ok = false;
                    if r <= 0 {
                        if r < 0 && *libc::__errno_location() == libc::EAGAIN {
                            continue;
                        }
                        libc::close(l.fd);
                        l.fd = -1;
                        if l.busy {
                            done = true;
                        } else {
                            let b = l.backend;
                            backends[b].idle.retain(|&x| x != i);
                            continue;
                        }
                    } else {
                        l.n += r as usize;
                        if l.need == 0 {
                            if let Some(p) = find(&l.buf[..l.n], b"\r\n\r\n") {
                                let len = find_ci(&l.buf[..p + 2], b"\r\ncontent-length:")
                                    .map(|q| {
                                        l.buf[q + 17..p + 2]
                                            .iter()
                                            .skip_while(|b| **b == b' ')
                                            .take_while(|b| b.is_ascii_digit())
                                            .fold(0usize, |a, b| a * 10 + (b - b'0') as usize)
                                    })
                                    .unwrap_or(0);
                                l.need = p + 4 + len;
                            }
                        }
                        if l.need > 0 && l.n >= l.need {
                            done = true;
                            ok = l.buf[9] == b'2';
                        }
                    }
                    if done {
                        l.busy = false;
                        let c = &mut clients[l.client];
                        if c.race == l.race && c.open {
                            c.left -= 1;
                            if ok {
                                c.open = false;
                                send(c.fd, &l.buf[..l.need]);
                            } else if c.left == 0 {
                                c.open = false;
                                send(c.fd, b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
                            }
                        }
                        if l.fd >= 0 {
                            let b = l.backend;
                            backends[b].idle.push(i);
                        }
                    }
                }
            }
        }
    }
}

fn main() {
    let listen: SocketAddr = std::env::var("LISTEN").expect("LISTEN").parse().expect("LISTEN");
    let urls: Vec<String> =
        std::env::var("BACKEND_SERVERS").expect("BACKEND_SERVERS").split(',').map(String::from).collect();
    let n: usize = std::env::var("THREADS").ok().and_then(|v| v.parse().ok()).unwrap_or(2);
    std::thread::scope(|s| {
        for _ in 0..n {
            s.spawn(|| run(listen, &urls));
        }
    });
}
