//! Paths of Unix sockets.

use std::path::{Path, PathBuf};

/// The longest path, in bytes: as many as the kernel's address has room for, without the final zero.
const BYTES_MAX: usize = 107;

/// Checks the path of a Unix socket.
pub fn unix_path(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("no path from the root to a file; write unix:/run/red-tentacle.sock, say".to_owned());
    }
    if path.len() > BYTES_MAX || path.contains('\0') {
        return Err(format!("no path of a socket, which has at most {BYTES_MAX} bytes"));
    }
    Ok(Path::new(path).to_owned())
}
