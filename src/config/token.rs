//! The secret that an update shows. Knows nothing of requests.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;

/// The longest token in bytes. It must fit into a request's head, which has room for 32 KiB at least on the admin port.
const TOKEN_BYTES_MAX: u64 = 4096;

/// The secret that `Authorization: Bearer` must carry. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    secret: String,
    file: String,
}

impl AdminToken {
    /// Checks a token: visible ASCII, at least one character.
    pub fn new(token: &str) -> Result<AdminToken, String> {
        if token.is_empty() {
            return Err("the token is empty; write one into the file".to_owned());
        }
        // A client could send nothing else in a header field without doubt about its bytes.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token must be one line of visible ASCII characters without spaces".to_owned());
        }
        Ok(AdminToken { secret: token.to_owned(), file: String::new() })
    }

    /// Reads a token from a file; line ends behind it don't count. The error never quotes what the file holds.
    pub(super) fn from_file(path: &str) -> Result<AdminToken, String> {
        let bytes = read_start(path).map_err(|error| format!("cannot read it: {error}"))?;
        if bytes.len() as u64 > TOKEN_BYTES_MAX {
            return Err(format!("the token is longer than {TOKEN_BYTES_MAX} bytes"));
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(AdminToken { file: path.to_owned(), ..AdminToken::new(text.trim_end_matches(['\r', '\n']))? })
    }

    /// Whether its file holds another one now. The error says why a start would take none from it. A pipe isn't waited for.
    pub(super) fn is_outdated(&self) -> Result<bool, String> {
        let is_pipe = fs::metadata(&self.file).is_ok_and(|found| found.file_type().is_fifo());
        if self.file.is_empty() || is_pipe {
            return Ok(false);
        }
        AdminToken::from_file(&self.file).map(|now| now.secret != self.secret)
    }

    /// The secret itself, to be compared in constant time.
    pub fn as_str(&self) -> &str {
        &self.secret
    }

    /// The file that the token was read from, as its flag names it; empty if from none.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// Reads the file's first bytes, one more than a token may have.
fn read_start(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(set)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(content: &[u8]) -> Result<AdminToken, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content).expect("written");
        AdminToken::from_file(file.path().to_str().expect("UTF-8"))
    }

    #[test]
    fn the_line_end_is_no_part_of_a_token() {
        for content in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret\n\n"] {
            assert_eq!(read(content.as_bytes()).expect(content).as_str(), "s3cret", "{content:?}");
        }
    }

    #[test]
    fn bad_tokens_are_refused_without_being_quoted() {
        let long = "hush".repeat(1025);
        let rows: [(&[u8], &str); 8] = [
            (b"", "the token is empty"),
            (b"\n", "the token is empty"),
            (b"hush hush", "visible ASCII"),
            (b" hush", "visible ASCII"),
            (b"hush\nhush\n", "visible ASCII"),
            (b"hush\x07", "visible ASCII"),
            (b"hush\xff", "visible ASCII"),
            (long.as_bytes(), "longer than 4096 bytes"),
        ];
        for (content, part) in rows {
            let reason = read(content).expect_err(part);
            assert!(reason.contains(part) && !reason.contains("hush"), "{reason}");
        }
    }

    #[test]
    fn a_token_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", read(b"s3cret")), "Ok(AdminToken(set))");
    }
}
