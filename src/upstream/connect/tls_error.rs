//! The sentence for a failure of TLS, for the operator of the backend: what is wrong and, where it is known, what to do. Knows
//! nothing of connections. No apostrophes: the sentences stay as they are wherever they are escaped.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;
use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};

/// The most names that are shown of a certificate, which may have hundreds.
const NAMES_SHOWN_MAX: usize = 3;
/// The last second of the year 9999: certificates know none that is later, nor do dates.
const LAST_SECOND: u64 = 253_402_300_799;

const NO_COMMON_VERSION: &str = "no version of TLS in common: the backend must speak 1.2 or 1.3";
const NO_COMMON_CIPHER: &str = "no cipher or key in common: the backend needs AES-GCM or ChaCha20-Poly1305, with ECDHE on \
     X25519, P-256 or P-384, and a key of ECDSA P-256 or P-384, Ed25519 or RSA";
const BAD_KEY: &str = "must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits, with SHA-256 or longer";
const NO_TLS: &str =
    "the backend does not speak TLS on this port: if it speaks plain HTTP there, write http:// for https://";

/// The option by which most backends' authorities are given.
pub(crate) const CA_FILE: &str = "--ca-file";
/// The option of a backend whose authorities count in place of all others.
pub(crate) const OWN_CA: &str = "ca= (its own counts alone)";

/// The sentence for a failed handshake with a backend whose authorities are given by this option. A port that speaks no TLS there most
/// likely never does.
pub(crate) fn sentence_of_handshake(error: &io::Error, authorities: &str) -> String {
    match inner(error) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => unknown_issuer(authorities),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)) => {
            NO_TLS.to_owned()
        }
        _ => sentence_of(error),
    }
}

/// The sentence for a failed read from a connection with TLS.
pub(crate) fn sentence_of(error: &io::Error) -> String {
    inner(error).map_or_else(|| error.to_string(), sentence)
}

/// Gives an error of TLS its sentence; any other stays as it is.
pub(crate) fn told(error: io::Error) -> io::Error {
    match inner(&error) {
        Some(inner) => io::Error::new(error.kind(), sentence(inner)),
        None => error,
    }
}

/// Unwraps the library's error from the error of the read.
fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The sentence for an error of TLS.
pub(crate) fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(why) => of_incompatible(why),
        Error::PeerMisbehaved(why) => of_misbehaved(why),
        Error::InvalidMessage(why) => breach(&format!("{why:?}")),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => breach(&error.to_string()),
        Error::PeerSentOversizedRecord => breach("a record is too long"),
        Error::DecryptError => "what the backend sent cannot be decrypted".to_owned(),
        Error::NoCertificatesPresented => "the backend shows no certificate".to_owned(),
        Error::NoApplicationProtocol => no_http(),
        error => error.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let fixed = match error {
        CertificateError::ExpiredContext { time, not_after } => {
            return format!("its certificate expired on {} (here it is {})", date(*not_after), date(*time));
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            return format!("its certificate is not valid before {} (here it is {})", date(*not_before), date(*time));
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            return format!("its certificate is not for {} but {}", expected.to_str(), names(presented));
        }
        CertificateError::InvalidPurposeContext { presented, .. } => {
            let uses: Vec<String> = presented.iter().take(NAMES_SHOWN_MAX).map(ExtendedKeyPurpose::to_string).collect();
            return format!("its certificate is not for servers, but for other uses: {}", uses.join(", "));
        }
        CertificateError::Other(error) => return of_other(&error.to_string()),
        CertificateError::Expired => "its certificate has expired",
        CertificateError::NotValidYet => "its certificate is not valid yet",
        CertificateError::NotValidForName => "its certificate is for other names",
        CertificateError::InvalidPurpose => "its certificate is not for servers, but for other uses",
        CertificateError::Revoked => "its certificate was revoked",
        CertificateError::BadEncoding => "its certificate cannot be read: the encoding is bad",
        CertificateError::UnhandledCriticalExtension => {
            "its certificate has a critical extension that is not known here"
        }
        CertificateError::UnknownIssuer => return unknown_issuer(CA_FILE),
        CertificateError::BadSignature => {
            "its certificate has a bad signature: the authority that we trust under that name has another key, or an RSA \
             key is shorter than 2048 bits"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            return format!("its certificate has a key or a signature that cannot be checked here: it {BAD_KEY}");
        }
        error => return format!("its certificate is not valid: {error}"),
    };
    fixed.to_owned()
}

fn unknown_issuer(authorities: &str) -> String {
    format!(
        "its certificate is signed by nobody we trust: give its authority by {authorities}, or have the backend send the certificates \
         between the two"
    )
}

/// The sentence for the verifier's own errors, which come without a type.
fn of_other(error: &str) -> String {
    let fixed = match error {
        "CaUsedAsEndEntity" => {
            "its certificate is an authority, used as that of a server: issue one from it (CA:FALSE)"
        }
        "EndEntityUsedAsCa" => "its certificate is signed by one that is no authority (CA:TRUE is missing)",
        "NameConstraintViolation" => {
            "its certificate is from an authority that may not issue any for such names (name constraints)"
        }
        "PathLenConstraintViolated" => {
            "its certificate has more authorities between it and the root than the root allows"
        }
        "UnsupportedCertVersion" => "its certificate is older than X.509 version 3",
        other => return format!("its certificate is not valid: {other}"),
    };
    fixed.to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let name = alert_name(alert);
    match alert {
        Alert::ProtocolVersion => format!("{NO_COMMON_VERSION} (alert {name})"),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            format!(
                "{NO_COMMON_CIPHER} (alert {name}; some backends mean that they demand a certificate of the client)"
            )
        }
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            format!("the backend demands a certificate of its client, and there is none to show (alert {name})")
        }
        Alert::UnrecognisedName => format!("the backend knows no host of this name (alert {name})"),
        Alert::NoApplicationProtocol => no_http(),
        _ => format!("the backend gave up (alert {name})"),
    }
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            NO_COMMON_VERSION.to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoEcPointFormatsInCommon => NO_COMMON_CIPHER.to_owned(),
        why => format!("the backend lacks something of TLS that is needed ({why:?})"),
    }
}

fn of_misbehaved(why: &PeerMisbehaved) -> String {
    match why {
        PeerMisbehaved::SelectedUnofferedCipherSuite | PeerMisbehaved::SelectedUnofferedKxGroup => {
            NO_COMMON_CIPHER.to_owned()
        }
        PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme | PeerMisbehaved::SignedKxWithWrongAlgorithm => {
            format!("its key cannot be checked here: it {BAD_KEY}")
        }
        why => breach(&format!("{why:?}")),
    }
}

fn breach(what: &str) -> String {
    format!("the backend breaks the rules of TLS ({what})")
}

fn no_http() -> String {
    "the backend does not speak HTTP/1.1 over TLS (ALPN)".to_owned()
}

/// A date in the form of HTTP.
fn date(time: UnixTime) -> String {
    fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs().min(LAST_SECOND)))
}

/// `for a.example, b.example and 7 more`, from the verifier's `DnsName("a.example")`, `IpAddress(127.0.0.1)` and other kinds.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let of_host = text.strip_prefix("DnsName(\"").and_then(|text| text.strip_suffix("\")"));
        let of_address = || text.strip_prefix("IpAddress(").and_then(|text| text.strip_suffix(')'));
        of_host.or_else(of_address).map(str::to_owned)
    };
    let mut names: Vec<String> = presented.iter().filter_map(name).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
    names.truncate(NAMES_SHOWN_MAX);
    match more {
        _ if names.is_empty() => "names no host at all (subjectAltName)".to_owned(),
        0 => format!("for {}", names.join(", ")),
        more => format!("for {} and {more} more", names.join(", ")),
    }
}

/// RFC 8446's word: `handshake_failure` of `HandshakeFailure`.
fn alert_name(alert: AlertDescription) -> String {
    let (mut name, mut was_lower) = (String::new(), false);
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && was_lower {
            name.push('_');
        }
        was_lower = c.is_ascii_lowercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ContentType, OtherError};

    use super::*;
    use crate::message::OF_CERTIFICATE;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn other(text: &'static str) -> CertificateError {
        CertificateError::Other(OtherError(Arc::new(io::Error::other(text))))
    }

    fn for_names(expected: &'static str, presented: &[&str]) -> CertificateError {
        let expected = ServerName::try_from(expected).expect("a name");
        let presented = presented.iter().map(|name| (*name).to_owned()).collect();
        CertificateError::NotValidForNameContext { expected, presented }
    }

    const HOSTS: [&str; 5] = [
        "DnsName(\"a.example\")",
        "IpAddress(127.0.0.1)",
        "DirectoryName",
        "DnsName(\"*.b.example\")",
        "DnsName(\"c.example\")",
    ];

    /// Was seen as: `Other(OtherError(CaUsedAsEndEntity))`, `HandshakeFailure`.
    #[test]
    fn a_bad_certificate_is_told_in_a_sentence() {
        use CertificateError as Bad;
        let algorithm = vec![0x2a, 0x86];
        let rows: [(CertificateError, &str); 24] = [
            (
                Bad::ExpiredContext { time: at(784_111_777), not_after: at(0) },
                "expired on Thu, 01 Jan 1970 00:00:00 GMT (here it is Sun, 06 Nov 1994 08:49:37 GMT)",
            ),
            (
                Bad::NotValidYetContext { time: at(0), not_before: at(u64::MAX) },
                "is not valid before Fri, 31 Dec 9999 23:59:59 GMT (here it is Thu, 01 Jan 1970 00:00:00 GMT)",
            ),
            (Bad::Expired, "has expired"),
            (Bad::NotValidYet, "is not valid yet"),
            (for_names("wrong.example", &HOSTS[..1]), "is not for wrong.example but for a.example"),
            (for_names("127.0.0.2", &HOSTS[..2]), "is not for 127.0.0.2 but for a.example, 127.0.0.1"),
            (for_names("wrong.example", &HOSTS), "but for a.example, 127.0.0.1, *.b.example and 1 more"),
            (for_names("wrong.example", &[]), "is not for wrong.example but names no host at all"),
            (Bad::NotValidForName, "is for other names"),
            (Bad::UnknownIssuer, "is signed by nobody we trust: give its authority by --ca-file"),
            (Bad::BadSignature, "has a bad signature"),
            (Bad::Revoked, "was revoked"),
            (Bad::BadEncoding, "cannot be read"),
            (Bad::UnhandledCriticalExtension, "has a critical extension"),
            (
                Bad::InvalidPurposeContext {
                    required: ExtendedKeyPurpose::ServerAuth,
                    presented: vec![ExtendedKeyPurpose::ClientAuth],
                },
                "is not for servers, but for other uses: client authentication",
            ),
            (Bad::InvalidPurpose, "is not for servers"),
            (
                Bad::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: algorithm.clone(),
                    supported_algorithms: Vec::new(),
                },
                "cannot be checked here: it must be ECDSA P-256 or P-384",
            ),
            (
                Bad::UnsupportedSignatureAlgorithmForPublicKeyContext {
                    signature_algorithm_id: algorithm.clone(),
                    public_key_algorithm_id: algorithm,
                },
                "cannot be checked here: it must be ECDSA P-256 or P-384",
            ),
            (other("CaUsedAsEndEntity"), "is an authority, used as that of a server: issue one from it"),
            (other("EndEntityUsedAsCa"), "is signed by one that is no authority"),
            (other("NameConstraintViolation"), "is from an authority that may not"),
            (other("PathLenConstraintViolated"), "has more authorities"),
            (other("UnsupportedCertVersion"), "is older than X.509 version 3"),
            (other("Whatever"), "is not valid: Whatever"),
        ];
        for (error, expected) in rows {
            let label = format!("{error:?}");
            let sentence = sentence(&error.into());
            assert!(sentence.starts_with(OF_CERTIFICATE) && sentence.contains(expected), "{label}: {sentence}");
        }
    }

    #[test]
    fn what_else_fails_in_tls_is_told_in_a_sentence() {
        use AlertDescription as Alert;
        let wrong = Error::InappropriateMessage { expect_types: Vec::new(), got_type: ContentType::Alert };
        let rows: [(Error, &str); 24] = [
            (Error::AlertReceived(Alert::HandshakeFailure), "no cipher or key in common"),
            (Error::AlertReceived(Alert::HandshakeFailure), "(alert handshake_failure; some backends"),
            (Error::AlertReceived(Alert::InsufficientSecurity), "no cipher or key in common"),
            (Error::AlertReceived(Alert::ProtocolVersion), "no version of TLS in common"),
            (Error::AlertReceived(Alert::CertificateRequired), "demands a certificate of its client"),
            (Error::AlertReceived(Alert::BadCertificate), "demands a certificate of its client"),
            (Error::AlertReceived(Alert::UnknownCA), "(alert unknown_ca)"),
            (Error::AlertReceived(Alert::UnrecognisedName), "knows no host of this name"),
            (Error::AlertReceived(Alert::NoApplicationProtocol), "does not speak HTTP/1.1 over TLS"),
            (Error::AlertReceived(Alert::InternalError), "the backend gave up (alert internal_error)"),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), "no version of TLS in common"),
            (PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into(), "no version of TLS in common"),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), "no cipher or key in common"),
            (PeerIncompatible::ExtendedMasterSecretExtensionRequired.into(), "lacks something of TLS"),
            (PeerMisbehaved::SelectedUnofferedCipherSuite.into(), "no cipher or key in common"),
            (PeerMisbehaved::SignedKxWithWrongAlgorithm.into(), "its key cannot be checked here: it must be ECDSA"),
            (PeerMisbehaved::IncorrectBinder.into(), "breaks the rules of TLS (IncorrectBinder)"),
            (InvalidMessage::InvalidContentType.into(), "does not speak TLS on this port"),
            (InvalidMessage::UnknownProtocolVersion.into(), "write http:// for https://"),
            (InvalidMessage::MessageTooShort.into(), "breaks the rules of TLS (MessageTooShort)"),
            (wrong, "breaks the rules of TLS (received unexpected message"),
            (Error::PeerSentOversizedRecord, "breaks the rules of TLS (a record is too long)"),
            (Error::DecryptError, "cannot be decrypted"),
            (Error::NoCertificatesPresented, "the backend shows no certificate"),
        ];
        for (error, expected) in rows {
            let label = format!("{error:?}");
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error);
            let sentence = sentence_of_handshake(&wrapped, CA_FILE);
            assert!(sentence.contains(expected) && !sentence.contains(['\'', '"', '\\']), "{label}: {sentence}");
        }
        for error in ["a reason", ""].map(io::Error::other) {
            assert_eq!(sentence_of_handshake(&error, CA_FILE), error.to_string());
            assert_eq!(told(io::Error::other(error.to_string())).to_string(), error.to_string());
        }
        let later = io::Error::new(io::ErrorKind::InvalidData, Error::from(InvalidMessage::InvalidContentType));
        let sentence = "the backend breaks the rules of TLS (InvalidContentType)";
        assert_eq!((sentence_of(&later), told(later).to_string()), (sentence.to_owned(), sentence.to_owned()));
    }
}
