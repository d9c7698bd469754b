//! The sentence for a client with whom TLS has failed, for the operator of the proxy: what is wrong with it. Knows nothing of
//! connections.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// Whether the client has said that it doesn't take the certificate that it was shown.
pub(crate) fn is_of_our_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnsupportedCertificate,
        ))
    )
}

/// The sentence for an error of a client's connection. What is no error of TLS, or is told well enough, stays as it is.
pub(crate) fn sentence(error: &io::Error) -> String {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return error.to_string() };
    if is_of_our_certificate(error) {
        return format!("it does not take our certificate ({inner})");
    }
    let fixed = match inner {
        Error::InvalidCertificate(error) => return of_certificate(error),
        Error::NoCertificatesPresented => "it shows no certificate, which --tls-client-ca demands",
        Error::NoApplicationProtocol => "it speaks neither HTTP/1.1 nor HTTP/1.0 (ALPN)",
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "what it sends is no TLS"
        }
        Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName)
        | Error::InvalidMessage(InvalidMessage::InvalidServerName) => {
            "the name that it asks for is none of a host (SNI)"
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // It came with TLS 1.2.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => "it speaks neither TLS 1.3 nor 1.2",
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => "it has no cipher, key exchange or signature in common with us",
        Error::PeerIncompatible(why) => return format!("it lacks something of TLS that is needed ({why:?})"),
        Error::PeerMisbehaved(why) => return breach(&format!("{why:?}")),
        Error::InvalidMessage(why) => return breach(&format!("{why:?}")),
        error => return error.to_string(),
    };
    fixed.to_owned()
}

fn of_certificate(error: &CertificateError) -> String {
    let fixed = match error {
        CertificateError::UnknownIssuer => "its certificate is signed by none of the authorities of --tls-client-ca",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for clients, but for other uses"
        }
        CertificateError::BadSignature => "its certificate, or what proves that it has the key, has a bad signature",
        CertificateError::Other(error) => return of_other(&error.to_string()),
        error => return format!("its certificate is not valid: {error}"),
    };
    fixed.to_owned()
}

/// The sentence for the verifier's own errors, which come without a type.
fn of_other(error: &str) -> String {
    let fixed = match error {
        "CaUsedAsEndEntity" => {
            "its certificate is an authority, used as that of a client: issue one from it (CA:FALSE)"
        }
        "EndEntityUsedAsCa" => "its certificate is signed by one that is no authority (CA:TRUE is missing)",
        "UnsupportedCertVersion" => "its certificate is older than X.509 version 3",
        other => return format!("its certificate is not valid: {other}"),
    };
    fixed.to_owned()
}

fn breach(what: &str) -> String {
    format!("it breaks the rules of TLS ({what})")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    /// Was seen as: `peer misbehaved: ServerNameMustContainOneHostName`, `Other(OtherError(CaUsedAsEndEntity))`.
    #[test]
    fn a_client_that_fails_in_tls_is_told_of_in_a_sentence() {
        let other =
            |name: &'static str| Error::from(CertificateError::Other(OtherError(Arc::new(io::Error::other(name)))));
        let rows: [(Error, &str); 15] = [
            (Error::NoCertificatesPresented, "it shows no certificate, which --tls-client-ca demands"),
            (Error::NoApplicationProtocol, "it speaks neither HTTP/1.1 nor HTTP/1.0 (ALPN)"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "it does not take our certificate ("),
            (InvalidMessage::InvalidContentType.into(), "what it sends is no TLS"),
            (PeerMisbehaved::ServerNameMustContainOneHostName.into(), "the name that it asks for is none of a host"),
            (PeerIncompatible::Tls12NotOfferedOrEnabled.into(), "it speaks neither TLS 1.3 nor 1.2"),
            (PeerIncompatible::SignatureAlgorithmsExtensionRequired.into(), "it speaks neither TLS 1.3 nor 1.2"),
            (PeerIncompatible::NoKxGroupsInCommon.into(), "it has no cipher, key exchange or signature in common"),
            (PeerIncompatible::KeyShareExtensionRequired.into(), "that is needed (KeyShareExtensionRequired)"),
            (PeerMisbehaved::IncorrectBinder.into(), "it breaks the rules of TLS (IncorrectBinder)"),
            (CertificateError::UnknownIssuer.into(), "is signed by none of the authorities of --tls-client-ca"),
            (CertificateError::Expired.into(), "its certificate has expired"),
            (other("CaUsedAsEndEntity"), "its certificate is an authority, used as that of a client"),
            (other("Whatever"), "its certificate is not valid: Whatever"),
            (CertificateError::Revoked.into(), "its certificate is not valid: "),
        ];
        for (error, expected) in rows {
            let told = sentence(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(told.contains(expected), "{expected}: {told}");
        }
        assert_eq!(sentence(&io::Error::other("a reason")), "a reason");
    }
}
