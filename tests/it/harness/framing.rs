//! The three ways in which an answer tells where its body ends.

/// How a body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Sized,
    Chunked,
    UntilClose,
}

impl Framing {
    pub const ALL: [Framing; 3] = [Framing::Sized, Framing::Chunked, Framing::UntilClose];

    /// The head of an answer whose body has this many bytes.
    pub fn head(self, length: usize) -> String {
        let field = match self {
            Framing::Sized => format!("Content-Length: {length}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::UntilClose => String::new(),
        };
        format!("HTTP/1.1 200 OK\r\n{field}\r\n")
    }

    /// A piece of the body as it goes over the wire.
    pub fn piece(self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let bytes = bytes.as_ref();
        if self == Framing::Chunked {
            return [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        }
        bytes.to_vec()
    }

    /// What follows the last piece.
    pub fn last(self) -> &'static str {
        if self == Framing::Chunked { "0\r\n\r\n" } else { "" }
    }
}
