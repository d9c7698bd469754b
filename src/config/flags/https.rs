//! HTTPS for clients: addresses, certificates, and certificates of clients.

use super::flag::Flag;
use crate::config::{Kind, Listen, values};
use crate::message::shown_path;
use crate::net::server_tls::CertificateFiles;

/// The most certificates. All of them are read at once.
const CERTIFICATES_MAX: usize = 64;

/// Rows, in the order of the help.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        name: "tls-listen",
        env: "RED_TENTACLE_TLS_LISTEN",
        value: "ADDRESS,...|off",
        default: "off",
        help: "Where clients connect by HTTPS; --tls-cert goes with it",
        set: |draft, text| {
            Listen::parse_list(text, Kind { port: 8443, is_private: false }).map(|all| draft.config.tls_listen = all)
        },
        show: |draft| values::show_listen(&draft.config.tls_listen),
    },
    Flag {
        name: "tls-cert",
        env: "RED_TENTACLE_TLS_CERT",
        value: "FILE[,KEY]...",
        default: "",
        help: "Certificate chain and private key in PEM, in one file or two; may be given again (in the variable: with ; in between), \
               chosen by name, the first is the default. SIGHUP reads the files again",
        set: |draft, text| {
            let all: Vec<_> = text.split([';', '\n']).map(files).collect::<Result<_, _>>()?;
            if all.len() > CERTIFICATES_MAX {
                let count = all.len();
                return Err(values::bad(text, format_args!("{count} certificates; give at most {CERTIFICATES_MAX}")));
            }
            let is_again =
                |(at, one): (usize, &CertificateFiles)| all[..at].iter().any(|other| other.chain == one.chain);
            if let Some(again) = all.iter().enumerate().find_map(|one| is_again(one).then_some(one.1)) {
                return Err(values::bad(&again.chain.to_string_lossy(), "given twice; leave one out"));
            }
            draft.config.tls.certificates = all;
            Ok(())
        },
        show: |draft| match draft.config.tls.certificates.as_slice() {
            [] => "(none)".to_owned(),
            certificates => certificates.iter().map(shown).collect::<Vec<_>>().join("; "),
        },
    },
    Flag {
        name: "tls-client-ca",
        env: "RED_TENTACLE_TLS_CLIENT_CA",
        value: "FILE",
        default: "",
        help: "Clients at --tls-listen must show a certificate that one of the authorities in this file (PEM) has signed",
        set: |draft, text| {
            draft.config.tls.client_ca = Some(text.into());
            Ok(())
        },
        show: |draft| values::show_or_none(draft.config.tls.client_ca.as_deref().map(shown_path).unwrap_or_default()),
    },
    Flag {
        name: "tls-client-cert-header",
        env: "RED_TENTACLE_TLS_CLIENT_CERT_HEADER",
        value: "on|off",
        default: "off",
        help: "Whether backends are told the subject of the client's certificate, in X-Forwarded-Client-Cert",
        set: |draft, text| values::switch(text).map(|on| draft.config.tls.tells_subject = on),
        show: |draft| values::show_switch(draft.config.tls.tells_subject),
    },
];

/// The files of one certificate.
fn files(text: &str) -> Result<CertificateFiles, String> {
    let (chain, key) = text.split_once(',').unwrap_or((text, text));
    let (chain, key) = (chain.trim(), key.trim());
    if chain.is_empty() || key.is_empty() || key.contains(',') {
        return Err(values::bad(
            text,
            "no file with a certificate and its key; write both.pem or fullchain.pem,privkey.pem",
        ));
    }
    Ok(CertificateFiles { chain: chain.into(), key: key.into() })
}

fn shown(files: &CertificateFiles) -> String {
    let [chain, key] = [&files.chain, &files.key].map(|path| shown_path(path));
    if chain == key { chain } else { format!("{chain},{key}") }
}
