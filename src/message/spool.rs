//! A request's body, kept once: in memory while it is small, then in an unlinked file. Every leg reads it at its own
//! pace, as often as it needs. Knows nothing of where the bytes come from or go to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bodies up to this length stay in memory: most are shorter, and a file costs six system calls.
const MEMORY_BYTES_MAX: usize = 64 * 1024;

/// A complete body. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Kept>);

#[derive(Debug)]
enum Kept {
    Memory(Vec<u8>),
    File { file: File, length: u64 },
}

/// Why a body can't be kept.
#[derive(Debug)]
pub enum Spooling {
    /// It is longer than allowed.
    TooLong,
    /// The spool directory can't take it.
    NoRoom(io::Error),
}

impl Spool {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match &*self.0 {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::File { length, .. } => *length,
        }
    }

    /// A reader of its own, from the first byte.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { spool: self.clone(), offset: 0 }
    }

    /// All bytes, if the body is short enough to be in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &*self.0 {
            Kept::Memory(bytes) => Some(bytes),
            Kept::File { .. } => None,
        }
    }
}

/// Reads a [`Spool`]; other readers of it don't notice.
#[derive(Debug)]
pub struct SpoolReader {
    spool: Spool,
    offset: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &*self.spool.0 {
            Kept::Memory(bytes) => {
                let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)?
            }
            Kept::File { file, .. } => file.read_at(buffer, self.offset)?,
        };
        if count == 0 && !buffer.is_empty() && self.offset < self.spool.length() {
            // ureq would ask for the missing bytes for ever.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

/// Takes a body in as it arrives.
#[derive(Debug)]
pub struct SpoolWriter {
    directory: Arc<Path>,
    bytes_max: u64,
    length: u64,
    memory: Vec<u8>,
    file: Option<File>,
}

impl SpoolWriter {
    /// A writer for a body of at most `bytes_max` bytes, which puts its file into `directory`.
    pub fn new(directory: Arc<Path>, bytes_max: u64) -> SpoolWriter {
        SpoolWriter { directory, bytes_max, length: 0, memory: Vec::new(), file: None }
    }

    /// Appends what has arrived. Blocks only on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Spooling> {
        self.length += bytes.len() as u64;
        if self.length > self.bytes_max {
            return Err(Spooling::TooLong);
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= MEMORY_BYTES_MAX {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.append_to_file(bytes).map_err(Spooling::NoRoom)
    }

    fn append_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = tempfile::tempfile_in(&self.directory)?;
                file.write_all(&std::mem::take(&mut self.memory))?;
                file
            }
        };
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// How many bytes have arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The complete body.
    pub fn finish(self) -> Spool {
        Spool(Arc::new(match self.file {
            Some(file) => Kept::File { file, length: self.length },
            None => Kept::Memory(self.memory),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(bytes_max: u64) -> SpoolWriter {
        SpoolWriter::new(std::env::temp_dir().into(), bytes_max)
    }

    fn read(mut reader: SpoolReader) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("a spool can be read");
        bytes
    }

    #[test]
    fn every_reader_gets_the_whole_body_from_memory_and_from_disk() {
        for length in [0, 1, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX + 1, 1 << 20] {
            let body: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
            let mut writer = writer(1 << 20);
            for piece in body.chunks(10_000) {
                writer.append(piece).expect("room");
            }
            let spool = writer.finish();
            let half_read = {
                let mut reader = spool.reader();
                let _ = reader.read(&mut [0; 100]).expect("a spool can be read");
                reader
            };
            assert_eq!(read(spool.reader()), body, "{length} bytes");
            assert_eq!(read(half_read), body[length.min(100)..], "{length} bytes");
            assert_eq!(spool.length(), length as u64);
            assert_eq!(spool.bytes().is_some(), length <= MEMORY_BYTES_MAX);
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_refused() {
        let mut writer = writer(10);
        writer.append(&[0; 10]).expect("room");
        assert!(matches!(writer.append(&[0]), Err(Spooling::TooLong)));
    }

    #[test]
    fn a_directory_that_takes_no_file_is_reported() {
        let mut writer = SpoolWriter::new(Path::new("/nonexistent").into(), 1 << 20);
        writer.append(&vec![0; MEMORY_BYTES_MAX]).expect("memory");
        assert!(matches!(writer.append(&[0]), Err(Spooling::NoRoom(_))));
    }
}
