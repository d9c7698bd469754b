//! Preloaded to wrk for S2-https-new: a full handshake on each connection. wrk clears and reuses OpenSSL's object for a connection,
//! and with it the last session, which the next handshake would resume.
use std::os::raw::{c_int, c_void};
use std::{mem, ptr};

extern "C" {
    fn SSL_set_session(ssl: *mut c_void, session: *mut c_void) -> c_int;
}

/// OpenSSL's function of this name, once the session is forgotten.
#[no_mangle]
unsafe extern "C" fn SSL_clear(ssl: *mut c_void) -> c_int {
    let next = libc::dlsym(libc::RTLD_NEXT, c"SSL_clear".as_ptr());
    let next: unsafe extern "C" fn(*mut c_void) -> c_int = mem::transmute(next);
    SSL_set_session(ssl, ptr::null_mut()) & next(ssl)
}
