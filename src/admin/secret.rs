//! Secrets that a request shows: the token of `--admin-token-file`, and that of the page's forms. Knows nothing of what they
//! protect.

use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

/// The random bytes of a secret of our own: 128 bits can't be guessed.
const RANDOM_BYTES: usize = 16;

/// A secret. Never shown, but by [`Secret::reveal`].
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(secret: &str) -> Secret {
        Secret(secret.to_owned())
    }

    /// A secret that no other process has, in hexadecimal digits. Panics if the system gives no random bytes.
    pub(super) fn random() -> Secret {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        let mut digits = String::with_capacity(2 * RANDOM_BYTES);
        for byte in bytes {
            write!(digits, "{byte:02x}").expect("a string takes all");
        }
        Secret(digits)
    }

    /// The secret itself, to be handed to its bearer.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Checks that the request shows it as a program does: `Authorization: Bearer SECRET`.
    pub(super) fn check_bearer(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let field = authorization(headers)?
            .ok_or("the request has no token: send 'Authorization: Bearer TOKEN' (--admin-token-file)")?;
        let presented = behind("Bearer", field).filter(|token| !token.is_empty());
        let presented = presented.ok_or("Authorization isn't of the form 'Bearer TOKEN' (--admin-token-file)")?;
        self.check(presented)
    }

    /// Checks that the request shows it as a browser does: as the password of any user (RFC 7617).
    pub(super) fn check_basic(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let field = authorization(headers)?
            .ok_or("the page needs a password, of any user: it is the token in --admin-token-file")?;
        let credentials = behind("Basic", field).and_then(|encoded| STANDARD.decode(encoded).ok());
        let credentials =
            credentials.ok_or("Authorization isn't of the form 'Basic CREDENTIALS' (--admin-token-file)")?;
        let colon = credentials.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or("the credentials have no colon before their password (--admin-token-file)")?;
        self.check(&credentials[colon + 1..])
    }

    fn check(&self, presented: &[u8]) -> Result<(), &'static str> {
        if self.is(presented) { Ok(()) } else { Err("the token isn't the one in --admin-token-file") }
    }

    /// Compares in a time that depends on the length of `presented` alone, not on the secret's length nor on where they
    /// differ: slices compare in constant time only if their lengths are the same, and else at once, which would tell
    /// the secret's length. So every byte presented is compared with one of the secret, which begins anew at its end.
    pub(super) fn is(&self, presented: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let mut same = secret.len().ct_eq(&presented.len()) & !secret.len().ct_eq(&0);
        for (byte, expected) in presented.iter().zip(secret.iter().cycle()) {
            same &= byte.ct_eq(expected);
        }
        same.into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Whether the request shows a user and a password.
pub(super) fn is_basic(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|field| behind("Basic", field.as_bytes()).is_some())
}

/// The only field of that name. Which of two counts would be for the reader to guess.
fn authorization(headers: &HeaderMap) -> Result<Option<&[u8]>, &'static str> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().map(HeaderValue::as_bytes);
    match fields.next() {
        Some(_) => Err("the request has more than one Authorization: send exactly one (--admin-token-file)"),
        None => Ok(field),
    }
}

/// What stands behind a scheme, which is in any case (RFC 9110 §11.1).
fn behind<'a>(scheme: &str, field: &'a [u8]) -> Option<&'a [u8]> {
    let (found, rest) = field.split_at_checked(scheme.len())?;
    (found.eq_ignore_ascii_case(scheme.as_bytes()) && rest.starts_with(b" ")).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(field: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(field).expect("a value"))])
    }

    #[test]
    fn a_password_is_the_token_of_any_user() {
        let encoded = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let rows = [
            ("right", encoded("me:s3cret:"), ""),
            ("no user", encoded(":s3cret:"), ""),
            ("a scheme in another case", encoded("me:s3cret:").replace("Basic", "bASIC"), ""),
            ("another password", encoded("me:s3cret"), "the token isn't the one"),
            ("the token as the user", encoded("s3cret:"), "the token isn't the one"),
            ("no password", encoded("me:"), "the token isn't the one"),
            ("no colon", encoded("me"), "the credentials have no colon"),
            ("nothing", "Basic ".to_owned(), "the credentials have no colon"),
            ("no base64", "Basic s3cret:".to_owned(), "Authorization isn't of the form"),
            ("unpadded", encoded("me:s3cret:").replace('=', ""), "Authorization isn't of the form"),
            ("another scheme", "Bearer s3cret:".to_owned(), "Authorization isn't of the form"),
        ];
        for (label, field, expected) in rows {
            let reason = Secret::new("s3cret:").check_basic(&presented(&field)).err().unwrap_or_default();
            assert!(reason.starts_with(expected) && reason.is_empty() == expected.is_empty(), "{label}: {reason}");
        }
        assert!(Secret::new("s3cret:").check_basic(&HeaderMap::new()).is_err());
        assert!(Secret::new("").check_basic(&presented(&encoded("me:"))).is_err(), "an empty token admits no request");
    }

    #[test]
    fn a_random_secret_has_128_bits_and_no_other_is_the_same() {
        let (one, other) = (Secret::random(), Secret::random());
        assert!(one.reveal().len() == 32 && one.reveal().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(one.is(one.reveal().as_bytes()) && !one.is(other.reveal().as_bytes()) && !one.is(b""));
        assert_eq!(format!("{one:?}"), "Secret(hidden)");
    }
}
