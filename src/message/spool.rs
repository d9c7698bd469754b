//! A request's body, kept once: in memory while it is small, then in an unlinked file. Every leg reads it at its own
//! pace, as often as it needs. Knows nothing of where the bytes come from or go to.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use super::share::Share;

/// Bodies up to this length stay in memory: most are shorter, and a file costs six system calls.
const MEMORY_BYTES_MAX: usize = 64 * 1024;
/// Memory of all bodies together, unless the host has less: 256 of the longest, and a quarter of the smallest host.
/// Bodies that don't fit go to their files at once.
const ALL_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a body gathers before they are written to its file: else chunks of a byte would cost a system call each.
/// It is no more than a client's head may take, so that a thousand uploads cost what a thousand clients may cost
/// anyway.
const BUFFER_BYTES: usize = 16 * 1024;

type Close = Box<dyn Fn(File) + Send + Sync>;

/// The memory that bodies share, and what closes their files.
pub struct SpoolMemory {
    used: Arc<AtomicUsize>,
    bytes_max: usize,
    /// The longest body that stays in it.
    body_bytes_max: usize,
    /// The part of it that a file's buffer takes.
    buffer_bytes: usize,
    close: OnceLock<Close>,
}

impl SpoolMemory {
    /// Memory of at most `bytes_max` bytes for all bodies together.
    pub fn of(bytes_max: usize) -> SpoolMemory {
        let (body_bytes_max, buffer_bytes) = (MEMORY_BYTES_MAX, BUFFER_BYTES);
        SpoolMemory { used: Arc::default(), bytes_max, body_bytes_max, buffer_bytes, close: OnceLock::new() }
    }

    /// Shortens what a body may have of it, so that short bodies go the ways that only long ones go else.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn in_portions(self, body_bytes_max: usize, buffer_bytes: usize) -> SpoolMemory {
        SpoolMemory { body_bytes_max, buffer_bytes, ..self }
    }

    /// Memory for bodies on a host that gives the process `memory_bytes`: a quarter of it, 16 MiB at most.
    pub fn within(memory_bytes: u64) -> SpoolMemory {
        SpoolMemory::of(usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX).min(ALL_MEMORY_BYTES_MAX))
    }

    /// Has every file closed by `close`, which must not block: freeing a file's blocks may take the disk a while, and
    /// the last to hold a body may be the poller's thread. Only the first call counts; without any, files are closed
    /// where they are dropped.
    pub fn close_files_by(&self, close: impl Fn(File) + Send + Sync + 'static) {
        let _ = self.close.set(Box::new(close));
    }
}

impl Default for SpoolMemory {
    fn default() -> SpoolMemory {
        SpoolMemory::of(ALL_MEMORY_BYTES_MAX)
    }
}

impl fmt::Debug for SpoolMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolMemory").field("used", &self.used).finish_non_exhaustive()
    }
}

/// A complete body. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    /// Unlinked; closed by what [`SpoolMemory::close_files_by`] was given.
    file: Option<File>,
    /// The file's length, in bytes.
    written: u64,
    /// The bytes behind those: all, if there is no file.
    memory: Vec<u8>,
    share: Share,
    all_memory: Arc<SpoolMemory>,
}

impl Kept {
    fn length(&self) -> u64 {
        self.written + self.memory.len() as u64
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(file) = self.file.take()
            && let Some(close) = self.all_memory.close.get()
        {
            close(file);
        }
    }
}

/// Reason why a body can't be kept.
#[derive(Debug)]
pub enum SpoolError {
    /// It is longer than allowed.
    TooLong,
    /// The spool directory can't take it.
    NoRoom(io::Error),
}

impl Spool {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.0.length()
    }

    /// Whether both are one body.
    pub fn is(&self, other: &Spool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A reader of its own, from the first byte.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { spool: self.clone(), offset: 0 }
    }

    /// All bytes, if the body is short enough to be in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.0.file.is_none().then_some(&self.0.memory)
    }

    /// Reads some of the bytes that begin at `offset`, and returns how many. Blocks only on the disk.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Kept { file, written, memory, .. } = &*self.0;
        let in_file = usize::try_from(written.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let count = match file {
            Some(file) if in_file > 0 => file.read_at(&mut buffer[..in_file], offset)?,
            _ => {
                let start = usize::try_from(offset.saturating_sub(*written)).unwrap_or(usize::MAX).min(memory.len());
                (&memory[start..]).read(buffer)?
            }
        };
        if count == 0 && !buffer.is_empty() && offset < self.length() {
            // Zero would mean the end, and a reader that knows the length would ask for the missing bytes for ever.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// Reads a [`Spool`], at a position of its own.
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
    kept: Kept,
}

impl SpoolWriter {
    /// A writer for a body of at most `bytes_max` bytes, which puts its file into `directory` if it is long.
    pub fn new(directory: Arc<Path>, bytes_max: u64) -> SpoolWriter {
        SpoolWriter::sharing(Arc::default(), directory, bytes_max)
    }

    /// A writer for a body of at most `bytes_max` bytes that shares `memory` with other bodies.
    pub fn sharing(memory: Arc<SpoolMemory>, directory: Arc<Path>, bytes_max: u64) -> SpoolWriter {
        let share = Share::new(memory.used.clone(), memory.bytes_max);
        let kept = Kept { file: None, written: 0, memory: Vec::new(), share, all_memory: memory };
        SpoolWriter { directory, bytes_max, kept }
    }

    /// Appends what has arrived. Blocks only on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if self.try_append(bytes)? { Ok(()) } else { self.append_to_file(bytes).map_err(SpoolError::NoRoom) }
    }

    /// Appends what has arrived, unless that needs the disk: then it takes nothing and returns `false`. Never blocks.
    pub fn try_append(&mut self, bytes: &[u8]) -> Result<bool, SpoolError> {
        if self.length() + bytes.len() as u64 > self.bytes_max {
            return Err(SpoolError::TooLong);
        }
        let has_room = self.try_reserve(bytes.len());
        if has_room {
            self.kept.memory.extend_from_slice(bytes);
        }
        Ok(has_room)
    }

    /// Reserves room in memory for `more` bytes; returns whether there was any.
    fn try_reserve(&mut self, more: usize) -> bool {
        let SpoolMemory { body_bytes_max, buffer_bytes, .. } = *self.kept.all_memory;
        if self.kept.file.is_some() {
            let has_room = self.kept.memory.len() + more <= buffer_bytes;
            if has_room && self.kept.memory.is_empty() {
                self.kept.share.become_bytes(buffer_bytes);
            }
            return has_room;
        }
        let room = (self.kept.memory.len() + more).next_power_of_two();
        let has_room = room <= body_bytes_max && self.kept.share.try_grow(room);
        if has_room {
            // Exactly what is counted.
            self.kept.memory.reserve_exact(room - self.kept.memory.len());
        }
        has_room
    }

    /// Writes to the file what its buffer has no room for, and keeps the rest for the next time.
    fn append_to_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.kept.file.is_none() {
            self.kept.file = Some(tempfile::tempfile_in(&self.directory)?);
        }
        self.write_out()?;
        let buffer_bytes = self.kept.all_memory.buffer_bytes;
        // Without a buffer there would be more to do for the disk, not less; so it is taken, and counts.
        if bytes.len() < buffer_bytes {
            self.kept.share.become_bytes(buffer_bytes);
            self.kept.memory.extend_from_slice(bytes);
        } else if let Some(file) = &mut self.kept.file {
            file.write_all(bytes)?;
            self.kept.written += bytes.len() as u64;
        }
        Ok(())
    }

    /// Whether the file, if there is one, has all that has arrived.
    pub fn is_written_out(&self) -> bool {
        self.kept.file.is_none() || self.kept.memory.is_empty()
    }

    /// Writes the buffer to the file, if there is one. Blocks only on the disk.
    pub fn write_out(&mut self) -> io::Result<()> {
        let Kept { file, written, memory, share, .. } = &mut self.kept;
        if let Some(file) = file {
            *written += memory.len() as u64;
            file.write_all(&std::mem::take(memory))?;
            share.become_bytes(0);
        }
        Ok(())
    }

    /// The number of bytes that have arrived.
    pub fn length(&self) -> u64 {
        self.kept.length()
    }

    /// Makes the complete body. Bytes that aren't written out stay in memory.
    pub fn finish(self) -> Spool {
        Spool(Arc::new(self.kept))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

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
        assert!(matches!(writer.append(&[0]), Err(SpoolError::TooLong)));
    }

    #[test]
    fn a_directory_that_takes_no_file_is_reported() {
        let mut writer = SpoolWriter::new(Path::new("/nonexistent").into(), 1 << 20);
        writer.append(&vec![0; MEMORY_BYTES_MAX]).expect("memory");
        assert!(matches!(writer.append(&[0]), Err(SpoolError::NoRoom(_))));
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
            writer.write_out().expect("room");
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
        drop((half, long, spools));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }

    /// Counts the system calls of this thread that write.
    fn writes() -> usize {
        let io = std::fs::read_to_string("/proc/thread-self/io").expect("Linux");
        io.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok()).expect("a number")
    }

    /// Was seen as: a body in chunks of a byte cost a system call for each of them.
    #[test]
    fn a_file_is_written_in_pieces_of_16_kib_however_the_body_comes() {
        const LENGTH: usize = 160 * 1024;
        for piece in [1, 100, BUFFER_BYTES, BUFFER_BYTES + 1] {
            let full = Arc::new(SpoolMemory::of(0));
            let mut writer = SpoolWriter::sharing(full, std::env::temp_dir().into(), 1 << 20);
            let body: Vec<u8> = (0..LENGTH).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
            let before = writes();
            for piece in body.chunks(piece) {
                writer.append(piece).expect("room");
            }
            let made = writes() - before;
            assert!(made <= 2 * LENGTH / BUFFER_BYTES, "{made} writes of pieces of {piece}");
            assert_eq!(read(writer.finish().reader()), body, "pieces of {piece}");
        }
    }

    #[test]
    fn what_needs_the_disk_is_told_before_anything_is_taken() {
        let kib = |count: usize| vec![7; count * 1024];
        // The memory of all bodies, the pieces before, the next piece, and whether the disk is needed for that.
        let rows = [
            ("a first byte", 1 << 20, vec![], 1, false),
            ("64 KiB at once", 1 << 20, vec![], 64 * 1024, false),
            ("64 KiB in two", 1 << 20, vec![kib(48)], 16 * 1024, false),
            ("one byte more", 1 << 20, vec![kib(64)], 1, true),
            ("all memory is taken", 0, vec![], 1, true),
            ("there is no room to grow", 1024, vec![kib(1)], 1, true),
            ("a file's buffer", 0, vec![vec![7]], 16 * 1024 - 1, false),
            ("more than a file's buffer", 0, vec![vec![7]], 16 * 1024, true),
            ("behind a piece that has no place in it", 0, vec![kib(16)], 16 * 1024, false),
        ];
        for (label, bytes_max, before, next, expected) in rows {
            let memory = Arc::new(SpoolMemory::of(bytes_max));
            let mut writer = SpoolWriter::sharing(memory, std::env::temp_dir().into(), 1 << 20);
            for piece in before {
                writer.append(&piece).expect(label);
            }
            let length = writer.length();
            assert_eq!(writer.try_append(&vec![7; next]).expect(label), !expected, "{label}");
            assert_eq!(writer.length(), length + if expected { 0 } else { next as u64 }, "{label}");
        }
    }

    #[test]
    fn the_buffers_of_files_count_as_memory_of_all_bodies() {
        let memory = Arc::new(SpoolMemory::of(0));
        let mut writer = SpoolWriter::sharing(memory.clone(), std::env::temp_dir().into(), 1 << 20);
        writer.append(&[7]).expect("a file");
        assert_eq!(memory.used.load(Ordering::Relaxed), BUFFER_BYTES);
        writer.write_out().expect("room");
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert_eq!(read(writer.finish().reader()), [7]);
    }

    /// Was seen as: the thread that waits for all sockets closed a long file, and waited for the disk.
    #[test]
    fn files_are_closed_by_what_the_memory_says_whether_they_became_a_body_or_not() {
        let memory = Arc::new(SpoolMemory::of(0));
        let (sender, closed) = crossbeam_channel::unbounded();
        memory.close_files_by(move |file| sender.send(file).expect("the test listens"));
        for is_finished in [true, false] {
            let mut writer = SpoolWriter::sharing(memory.clone(), std::env::temp_dir().into(), 1 << 20);
            writer.append(&[7]).expect("a file");
            if is_finished {
                let spool = writer.finish();
                let clone = spool.clone();
                drop(spool);
                assert!(closed.is_empty(), "a leg still reads it");
                drop(clone);
            } else {
                drop(writer);
            }
            assert_eq!(closed.len(), 1);
            drop(closed.recv().expect("a file"));
        }
    }
}
