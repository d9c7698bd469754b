//! Reads short files that an operator names. Knows nothing of what is in them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;

/// Reads a file of at most that many bytes. An error says what is wrong with it, without its name. Blocks on the disk, but for no
/// pipe's writer: some are read again while the program serves.
pub(crate) fn read(path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Err("it is a pipe, which would be waited for; name a file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > bytes_max { Err(format!("it is longer than {bytes_max} bytes")) } else { Ok(bytes) }
}
