//! What a certificate (RFC 5280 §4.1) says that the TLS library doesn't tell: when it is valid, of whom it is, for which names and uses,
//! and whether it may sign others. It is from a file of the operator's, or its signature has been checked.

use std::fmt::Write;

const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
/// Texts in UTF-8: `UTF8String`, `PrintableString`, `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The explicit tag of the version, which may be left out.
const VERSION: u8 = 0xa0;
/// The explicit tag of the extensions, which only version 3 has.
const EXTENSIONS: u8 = 0xa3;
/// The object id of the extension that says who may sign others (2.5.29.19).
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// And of that with the names that it is for (2.5.29.17).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
/// The tag of a name of a host among them, that of a URI, and that of an address.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;
/// The object id of the extension that says what it may be used for (2.5.29.37).
const USES: &[u8] = &[0x55, 0x1d, 37];
/// Those of a server's use (1.3.6.1.5.5.7.3.1), and of any.
const SERVER_USE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const ANY_USE: &[u8] = &[0x55, 0x1d, 37, 0];

/// The names of a subject's attributes (RFC 4514 §3), by the end of their object ids under 2.5.4.
const ATTRIBUTES: [(u8, &str); 7] =
    [(3, "CN"), (5, "serialNumber"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];
/// The longest subject that is told, in bytes: it goes out in a field.
const SUBJECT_BYTES_MAX: usize = 1024;

/// The first and the last second at which a certificate (in DER) is valid, since 1970. `None` if they can't be read.
pub(crate) fn validity(certificate: &[u8]) -> Option<(u64, u64)> {
    let mut validity = Der(Der::fields(certificate)?.validity);
    let mut second = || {
        let (tag, text) = validity.next()?;
        seconds_of(tag, std::str::from_utf8(text).ok()?)
    };
    Some((second()?, second()?))
}

/// The subject of a certificate (in DER), as RFC 4514 writes it but in the certificate's own order: `O=Example,CN=a`. `None` if a part
/// of it can't be told: two subjects never look alike.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let mut subject = String::new();
    for (tag, relative) in Der(Der::fields(certificate)?.subject) {
        for (index, (inner, attribute)) in Der(relative).enumerate() {
            let separator = match index {
                _ if subject.is_empty() => "",
                0 => ",",
                _ => "+",
            };
            let mut attribute = Der(attribute);
            let ((OBJECT_ID, &[0x55, 4, end]), (kind, value)) = (attribute.next()?, attribute.next()?) else {
                return None;
            };
            let (_, name) = ATTRIBUTES.iter().find(|(number, _)| *number == end)?;
            if tag != SET || inner != SEQUENCE || !TEXTS.contains(&kind) {
                return None;
            }
            let value = Escaped(std::str::from_utf8(value).ok()?);
            write!(subject, "{separator}{name}={value}").expect("a string takes all");
        }
    }
    (subject.len() <= SUBJECT_BYTES_MAX).then_some(subject)
}

/// Whether a certificate (in DER) is an authority's: it says so (CA:TRUE), is of version 1, which can't, or has signed itself, as one
/// does that stands for its holder alone.
pub(crate) fn is_authority(certificate: &[u8]) -> bool {
    let Some(fields) = Der::fields(certificate) else { return false };
    if fields.is_version_1 || fields.issuer == fields.subject {
        return true;
    }
    let says_so = fields.extension(BASIC_CONSTRAINTS).and_then(|value| Der(Der(value).next()?.1).next());
    says_so == Some((BOOLEAN, &[0xff]))
}

/// The names of hosts that a certificate (in DER) is for, as they stand in it.
pub(crate) fn dns_names(certificate: &[u8]) -> Vec<String> {
    let names = list(certificate, ALTERNATIVE_NAMES).into_iter().flatten().filter(|(tag, _)| *tag == DNS_NAME);
    names.filter_map(|(_, name)| String::from_utf8(name.to_vec()).ok()).collect()
}

/// Whether a certificate (in DER) is for an address or a URI. SPIFFE knows URIs alone.
pub(crate) fn has_address_or_uri(certificate: &[u8]) -> bool {
    list(certificate, ALTERNATIVE_NAMES).into_iter().flatten().any(|(tag, _)| matches!(tag, ADDRESS | URI))
}

/// Whether a certificate (in DER) says what it may be used for, and that isn't to be a server's.
pub(crate) fn excludes_servers(certificate: &[u8]) -> bool {
    list(certificate, USES).is_some_and(|mut uses| !uses.any(|(_, id)| id == SERVER_USE || id == ANY_USE))
}

/// The values in the list that is the extension with this object id.
fn list<'a>(certificate: &'a [u8], id: &[u8]) -> Option<Der<'a>> {
    let value = Der::fields(certificate)?.extension(id)?;
    Der(value).next().map(|(_, list)| Der(list))
}

/// The parts of a certificate's fields.
struct Fields<'a> {
    is_version_1: bool,
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    /// Those behind the subject.
    rest: Der<'a>,
}

impl<'a> Fields<'a> {
    /// The value of the extension with this object id.
    fn extension(self, id: &[u8]) -> Option<&'a [u8]> {
        let (_, extensions) = { self.rest }.find(|(tag, _)| *tag == EXTENSIONS)?;
        let is_it = |(_, extension): &(u8, &[u8])| Der(extension).next() == Some((OBJECT_ID, id));
        let (_, extension) = Der(Der(extensions).next()?.1).find(is_it)?;
        // Between the two there may stand whether it is critical.
        Der(extension).last().map(|(_, value)| value)
    }
}

/// A sequence of values in DER, each with its tag. Ends where it can't be read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn fields(certificate: &'a [u8]) -> Option<Fields<'a>> {
        let (_, signed) = Der(certificate).next()?;
        let (_, fields) = Der(signed).next()?;
        let mut fields = Der(fields);
        let is_version_1 = Der(fields.0).next()?.0 != VERSION;
        if !is_version_1 {
            fields.next();
        }
        // Behind the serial number and the algorithm.
        let (_, issuer) = fields.nth(2)?;
        let (_, validity) = fields.next()?;
        let (_, subject) = fields.next()?;
        Some(Fields { is_version_1, issuer, validity, subject, rest: fields })
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, short], rest) = std::mem::take(&mut self.0).split_first_chunk::<2>()?;
        let (length, rest) = match short {
            ..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; 0 for what is before that.
fn seconds_of(tag: u8, text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number = |text: &str| text.parse::<i64>().ok();
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year = number(&digits[..2])?;
            (if year < 50 { year + 2000 } else { year + 1900 }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| number(&rest[2 * at..2 * at + 2]);
    let days = days_since_1970(year, part(0)?, part(1)?);
    let seconds = ((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?;
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, whose years begin in March here.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// A value as RFC 4514 §2.4 escapes it, controls and other scripts by their bytes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' | b'#' | 0..0x20 | 0x7f.. => {
                    write!(f, "\\{byte:02X}")?;
                }
                byte => f.write_char(char::from(byte))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn der(params: &CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_told_to_the_second() {
        let rows = [
            (1970, 1, 1, 0),
            (2000, 2, 29, 951_782_400),
            (2026, 11, 29, 1_795_910_400),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (9999, 12, 31, 253_402_214_400),
        ];
        for (year, month, day, expected) in rows {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
            params.not_before = date_time_ymd(1960, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
            assert_eq!(validity(&der(&params)), Some((0, expected)), "{year}-{month}-{day}");
        }
        assert_eq!(seconds_of(UTC_TIME, "260102030405Z"), Some(1_767_323_045));
        assert_eq!(seconds_of(GENERALIZED_TIME, "20500102030405Z"), Some(2_524_608_000 + 97_445));
        for bad in ["", "Z", "260102030405", "2601020304Z", "26010203040xZ", "+60102030405Z"] {
            assert_eq!(seconds_of(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subject_is_told_in_one_line_and_cannot_break_out_of_it() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Ex, \"ample\"\r\n=x");
        params.distinguished_name.push(DnType::CommonName, "a é");
        let told = r"O=Ex\2C \22ample\22\0D\0A\3Dx,CN=a \C3\A9";
        assert_eq!(subject(&der(&params)).as_deref(), Some(told));
        params.distinguished_name.push(DnType::CommonName, "x".repeat(2000));
        assert_eq!(subject(&der(&params)), None, "too long");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]), "alice");
        assert_eq!(subject(&der(&params)), None, "an attribute that isn't known");
        params.distinguished_name = rcgen::DistinguishedName::new();
        let wide = rcgen::string::BmpString::try_from("a").expect("a text");
        params.distinguished_name.push(DnType::CommonName, rcgen::DnValue::BmpString(wide));
        assert_eq!(subject(&der(&params)), None, "a text that isn't UTF-8");
    }

    #[test]
    fn only_an_authority_says_that_it_is_one_or_has_signed_itself() {
        use rcgen::{BasicConstraints, CertifiedIssuer, IsCa};
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let rows = [
            (IsCa::NoCa, false),
            (IsCa::ExplicitNoCa, false),
            (IsCa::Ca(BasicConstraints::Unconstrained), true),
            (IsCa::Ca(BasicConstraints::Constrained(0)), true),
        ];
        for (is_ca, expected) in rows {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
            params.is_ca = is_ca;
            let leaf = params.signed_by(&KeyPair::generate().expect("a key"), &issuer).expect("a certificate");
            assert_eq!((is_authority(leaf.der()), is_authority(&der(&params))), (expected, true), "{:?}", params.is_ca);
        }
        // Serial number, algorithm, issuer, validity, subject: of version 1, and of version 3 without extensions.
        assert!(is_authority(b"\x30\x0c\x30\x0a\x02\0\x30\0\x30\0\x30\0\x30\0"));
        assert!(!is_authority(b"\x30\x10\x30\x0e\xa0\0\x02\0\x30\0\x30\x02\x31\0\x30\0\x30\0"));
    }

    #[test]
    fn the_names_of_hosts_are_told_and_no_others() {
        let names = ["a.example", "192.0.2.7", "*.b.example"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("names");
        assert_eq!(dns_names(&der(&params)), ["a.example", "*.b.example"]);
        assert!(dns_names(&der(&CertificateParams::default())).is_empty());
        assert!(has_address_or_uri(&der(&params)) && !has_address_or_uri(&der(&CertificateParams::default())));
        let params = CertificateParams::new(["a.example".to_owned()]).expect("a name");
        assert!(!has_address_or_uri(&der(&params)));
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://a.example/b".try_into().expect("a URI")));
        assert!(has_address_or_uri(&der(&params)) && dns_names(&der(&params)).is_empty());
    }

    #[test]
    fn a_certificate_excludes_servers_if_it_names_other_uses_alone() {
        use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        let rows = [
            (vec![], false),
            (vec![ServerAuth], false),
            (vec![ClientAuth, ServerAuth], false),
            (vec![Any], false),
            (vec![ClientAuth], true),
        ];
        for (uses, expected) in rows {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
            params.extended_key_usages.clone_from(&uses);
            assert_eq!(excludes_servers(&der(&params)), expected, "{uses:?}");
        }
    }

    #[test]
    fn cut_or_changed_bytes_are_no_certificate_and_no_panic() {
        let whole = der(&CertificateParams::new(vec!["a.example".to_owned()]).expect("names"));
        for length in 0..whole.len().min(200) {
            let _ = (
                validity(&whole[..length]),
                subject(&whole[..length]),
                is_authority(&whole[..length]),
                dns_names(&whole[..length]),
                has_address_or_uri(&whole[..length]),
                excludes_servers(&whole[..length]),
            );
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = (validity(&changed), subject(&changed), is_authority(&changed), dns_names(&changed));
                let _ = (has_address_or_uri(&changed), excludes_servers(&changed));
            }
        }
        assert_eq!((validity(b""), subject(b"\x30\x84\xff\xff\xff\xff")), (None, None));
    }
}
