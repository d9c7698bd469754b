//! A request's body, kept once: in memory while it is small, then in an unlinked file. Every leg reads it at its own
//! pace, as often as it needs. Knows nothing of where the bytes come from or go to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bodies up to this length stay in memory: most are shorter, and a file costs six system calls.
const MEMORY_BYTES_MAX: usize = 64 * 1024;
/// All bodies in memory together: 256 of the longest, and a quarter of the smallest host. What doesn't fit goes to its file
/// at once.
const ALL_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The memory that bodies share.
#[derive(Debug, Default)]
pub struct SpoolMemory(AtomicUsize);

/// One body's part of it.
#[derive(Debug)]
struct Share {
    memory: Arc<SpoolMemory>,
    bytes: usize,
}

impl Share {
    /// Grows to so many bytes, if they are left.
    fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grown = |used: usize| Some(used + more).filter(|used| *used <= ALL_MEMORY_BYTES_MAX);
        let has_room = more == 0 || self.memory.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if has_room { more } else { 0 };
        has_room
    }

    fn give_back(&mut self) {
        self.memory.0.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A complete body. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Kept>);

#[derive(Debug)]
enum Kept {
    Memory(Vec<u8>, #[expect(dead_code, reason = "it counts as long as the bytes are there")] Share),
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
            Kept::Memory(bytes, _) => bytes.len() as u64,
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
            Kept::Memory(bytes, _) => Some(bytes),
            Kept::File { .. } => None,
        }
    }

    /// Reads some of the bytes that begin at `offset`: how many. Blocks only on the disk.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = match &*self.0 {
            Kept::Memory(bytes, _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)?
            }
            Kept::File { file, .. } => file.read_at(buffer, offset)?,
        };
        if count == 0 && !buffer.is_empty() && offset < self.length() {
            // Whoever reads would ask for the missing bytes for ever.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
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
        let count = self.spool.read_at(buffer, self.offset)?;
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
    share: Share,
    file: Option<File>,
}

impl SpoolWriter {
    /// A writer for a body of at most `bytes_max` bytes, which puts its file into `directory` if it is long.
    pub fn new(directory: Arc<Path>, bytes_max: u64) -> SpoolWriter {
        SpoolWriter::sharing(Arc::default(), directory, bytes_max)
    }

    /// The same, with memory that others have a part of.
    pub fn sharing(memory: Arc<SpoolMemory>, directory: Arc<Path>, bytes_max: u64) -> SpoolWriter {
        let share = Share { memory, bytes: 0 };
        SpoolWriter { directory, bytes_max, length: 0, memory: Vec::new(), share, file: None }
    }

    /// Appends what has arrived. Blocks only on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Spooling> {
        self.length += bytes.len() as u64;
        if self.length > self.bytes_max {
            return Err(Spooling::TooLong);
        }
        if self.file.is_none() && self.has_room(bytes.len()) {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.append_to_file(bytes).map_err(Spooling::NoRoom)
    }

    /// Whether so many bytes more may be kept in memory, which then has them.
    fn has_room(&mut self, more: usize) -> bool {
        let room = (self.memory.len() + more).next_power_of_two();
        let has_room = room <= MEMORY_BYTES_MAX && self.share.grow(room);
        if has_room {
            // No more than is counted.
            self.memory.reserve_exact(room - self.memory.len());
        }
        has_room
    }

    fn append_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut file = tempfile::tempfile_in(&self.directory)?;
                file.write_all(&std::mem::take(&mut self.memory))?;
                self.share.give_back();
                file
            }
        };
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Whether so many bytes more may need the disk. All memory may be taken besides, which nobody can know before.
    pub fn needs_disk(&self, more: usize) -> bool {
        self.file.is_some() || self.memory.len() + more > MEMORY_BYTES_MAX
    }

    /// How many bytes have arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The complete body.
    pub fn finish(self) -> Spool {
        Spool(Arc::new(match self.file {
            Some(file) => Kept::File { file, length: self.length },
            None => Kept::Memory(self.memory, self.share),
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

    /// Was seen as: sixteen thousand clients with bodies of 64 KiB each could take a gigabyte.
    #[test]
    fn beyond_16_mib_of_memory_together_bodies_go_to_files_at_once() {
        let memory: Arc<SpoolMemory> = Arc::default();
        let spool = |length: usize| {
            let mut writer = SpoolWriter::sharing(memory.clone(), std::env::temp_dir().into(), 1 << 20);
            for piece in vec![7; length].chunks(10_000) {
                writer.append(piece).expect("room");
            }
            writer.finish()
        };
        let is_in_memory = |spool: &Spool| spool.bytes().is_some();
        let mut spools: Vec<Spool> = (0..256).map(|_| spool(MEMORY_BYTES_MAX)).collect();
        assert!(spools.iter().all(is_in_memory));
        for length in [1, 20_000] {
            let late = spool(length);
            assert!(!is_in_memory(&late) && read(late.reader()) == vec![7; length]);
        }
        let clone = spools[0].clone();
        drop(spools.remove(0));
        assert!(!is_in_memory(&spool(1)), "a leg still reads it");
        drop(clone);
        let half = spool(MEMORY_BYTES_MAX / 2);
        assert!(is_in_memory(&half));
        let long = spool(MEMORY_BYTES_MAX * 2);
        assert!(!is_in_memory(&long) && is_in_memory(&spool(MEMORY_BYTES_MAX / 2)), "a file takes no memory");
        drop((half, spools));
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
