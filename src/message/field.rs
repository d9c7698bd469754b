//! Fields as they go out, towards backends and clients alike.

/// Appends a line with a field: its name in title case, as Go and nginx send it, since some programs look for
/// `Content-Length:` byte for byte. Names are lower case here, so a client's or a backend's own spelling is lost.
pub(crate) fn put_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    let begin = bytes.len();
    bytes.extend_from_slice(name.as_bytes());
    let mut is_first = true;
    for byte in &mut bytes[begin..] {
        if is_first {
            byte.make_ascii_uppercase();
        }
        is_first = *byte == b'-';
    }
    for part in [b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_in_title_case_and_values_as_they_are() {
        let rows: [(&str, &[u8], &[u8]); 10] = [
            ("content-length", b"3", b"Content-Length: 3\r\n"),
            ("host", b"a.example:80", b"Host: a.example:80\r\n"),
            ("etag", b"\"a-b\"", b"Etag: \"a-b\"\r\n"),
            ("www-authenticate", b"Basic", b"Www-Authenticate: Basic\r\n"),
            ("x-a-1b-c_d", b"caf\xe9", b"X-A-1b-C_d: caf\xe9\r\n"),
            ("1-a", b"", b"1-A: \r\n"),
            ("-", b"b", b"-: b\r\n"),
            ("--a-", b"b", b"--A-: b\r\n"),
            ("a.b", b"b", b"A.b: b\r\n"),
            ("x", b"b", b"X: b\r\n"),
        ];
        for (name, value, expected) in rows {
            let mut bytes = b"before".to_vec();
            put_field(&mut bytes, name, value);
            assert_eq!(bytes, [b"before", expected].concat(), "{name}");
        }
    }
}
