//! Authentication that is bound to a connection instead of a request: NTLM and Negotiate (RFC 4559), against which RFC 9110 §11.7
//! warns. Knows nothing of connections.

use http::HeaderMap;

/// Schemes by which a server takes all further requests on a connection for the same user's: Kerberos under its old
/// name, too.
const BINDING_SCHEMES: [&str; 4] = ["negotiate", "ntlm", "nego2", "kerberos"];

/// Whether a field of a request or an answer shows that its connection belongs to one user from now on: credentials, a
/// challenge, or a server's word that they have been accepted.
pub fn binds_connection(name: &str, value: &[u8]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("authorization") || is("www-authenticate") || is("proxy-authenticate") {
        return words(value)
            .any(|word| BINDING_SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes())));
    }
    if is("persistent-auth") {
        return !value.trim_ascii().eq_ignore_ascii_case(b"false");
    }
    is("proxy-support") && words(value).any(|word| word.eq_ignore_ascii_case(b"session-based-authentication"))
}

/// Whether one of the fields binds the connection to one user.
pub fn bind_connection(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| binds_connection(name.as_str(), value.as_bytes()))
}

/// Splits a list of challenges more often than its grammar (RFC 9110 §11.6.1) would: a word too many costs a
/// connection, one too few a mailbox.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| matches!(byte, b',' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_to_a_connection_is_known_by_its_fields() {
        let rows = [
            ("Authorization", "Negotiate YIIZ", true),
            ("authorization", "NTLM TlRMTVNTUAAB", true),
            ("authorization", "ntlm", true),
            ("authorization", "Basic bmVnb3RpYXRl", false),
            ("authorization", "Bearer negotiated", false),
            ("authorization", "Digest username=\"ntlm\"", false),
            ("www-authenticate", "Negotiate", true),
            ("WWW-Authenticate", "Basic realm=\"a, b\", NTLM", true),
            ("www-authenticate", "Basic realm=\"a\",Negotiate", true),
            ("www-authenticate", "Basic realm=\"NTLM\"", false),
            ("proxy-authenticate", "Kerberos", true),
            ("persistent-auth", "true", true),
            ("persistent-auth", "false", false),
            ("proxy-support", "Session-Based-Authentication", true),
            ("proxy-support", "other", false),
            ("x-authorization", "NTLM x", false),
        ];
        for (name, value, expected) in rows {
            assert_eq!(binds_connection(name, value.as_bytes()), expected, "{name}: {value}");
        }
    }
}
