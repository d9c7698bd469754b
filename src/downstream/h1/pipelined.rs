//! Whether the bytes that a client has sent after a request are another one, so that it waits for more than the first reply.
//! Knows no socket.

use crate::downstream::h1::body::is_whole;
use crate::downstream::h1::head::{HeadReader, empty_lines};
use crate::message::BodyLength;

/// Whether a whole request is among the last bytes that a client will ever send: `received` are the first of them, `count` is the
/// number of all. Chunks that weren't all received count as whole.
pub(crate) fn is_request(received: &[u8], count: u64, head_bytes_max: usize) -> bool {
    let request = &received[empty_lines(received)..];
    // What would be refused is no request either.
    let Ok(Some((head, length))) = HeadReader::default().read(request, head_bytes_max) else { return false };
    // An urgent byte isn't among the bytes that the kernel counts.
    let after_head = count.saturating_sub((received.len() - request.len() + length) as u64);
    match head.body {
        BodyLength::None => true,
        BodyLength::Sized(body) => body <= after_head,
        BodyLength::Chunked => {
            let chunks = &request[length..];
            is_whole(chunks) || (chunks.len() as u64) < after_head
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::downstream::h1::pipelined;

    fn is_request(received: &[u8], count: u64) -> bool {
        pipelined::is_request(received, count, 1024)
    }

    #[test]
    fn only_a_whole_request_is_one() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\n";
        let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
        let rows: [(&str, String, bool); 16] = [
            ("nothing", String::new(), false),
            ("one byte", "G".to_owned(), false),
            ("empty lines", "\r\n\r\n".to_owned(), false),
            ("half an empty line", "\r".to_owned(), false),
            ("a part of a head", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), false),
            ("a whole head", "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true),
            ("after empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true),
            ("followed by more", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET".to_owned(), true),
            ("noise", "\0\r\n\r\n".to_owned(), false),
            ("a request that would be refused", "GET / HTTP/1.1\r\n\r\n".to_owned(), false),
            ("no body", format!("{post}Content-Length: 3\r\n\r\n"), false),
            ("a part of a body", format!("{post}Content-Length: 3\r\n\r\nab"), false),
            ("a whole body", format!("{post}Content-Length: 3\r\n\r\nabc"), true),
            ("a part of chunks", format!("{chunked}3\r\nabc\r\n0\r\n"), false),
            ("whole chunks", format!("{chunked}3\r\nabc\r\n0\r\n\r\n"), true),
            ("bad chunks", format!("{chunked}x\r\n\r\n"), false),
        ];
        for (label, bytes, expected) in rows {
            assert_eq!(is_request(bytes.as_bytes(), bytes.len() as u64), expected, "{label}");
        }
    }

    #[test]
    fn what_was_not_received_counts_as_well() {
        let sized = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin";
        let head = (sized.len() - 5) as u64;
        assert!(is_request(sized, head + 1_000_000) && !is_request(sized, head + 999_999));
        let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin";
        let count = chunked.len() as u64;
        assert!(is_request(chunked, count + 1) && !is_request(chunked, count));
    }
}
