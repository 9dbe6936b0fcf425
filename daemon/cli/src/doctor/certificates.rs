//! Checks validity period and X.509 version of the certificates named in the settings. Only these fields are read: TLS
//! verifies the certificates.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use gatehouse_config::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use gatehouse_control::answers::Finding;

/// Remaining validity in days below which doctor reports a certificate; enough to renew it by hand.
const EXPIRY_NOTICE_DAYS: i64 = 30;
/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
/// Settings that name certificate authorities. TLS accepts version 1 for these, other programs do not.
const AUTHORITY_KEYS: [&str; 3] = ["mqtt.ca_file", "central.objects.ca_file", "central.rows.ca_file"];
const VERSION_ADVICE: &str =
    "create it with an extension, see /usr/share/doc/gatehouse/examples/mosquitto/gatehouse.conf";

/// One finding for each certificate file named in the settings.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let objects = config.central.objects.as_ref().and_then(|objects| objects.ca_file.as_deref());
    let rows = config.central.rows.as_ref();
    let files = [
        ("mqtt.ca_file", config.mqtt.ca_file.as_deref()),
        ("mqtt.cert_file", config.mqtt.cert_file.as_deref()),
        ("central.objects.ca_file", objects),
        ("central.rows.ca_file", rows.and_then(|rows| rows.ca_file.as_deref())),
        ("central.rows.cert_file", rows.and_then(|rows| rows.cert_file.as_deref())),
    ];
    let named = files.into_iter().filter_map(|(key, file)| Some((key, file?)));
    named.map(|(key, file)| finding(key, file, Utc::now())).collect()
}

fn finding(key: &str, file: &Path, now: DateTime<Utc>) -> Finding {
    let name = format!("{key} {}", file.display());
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).and_then(|certificates| certificates.collect());
    let certificates = match certificates {
        Ok(certificates) => certificates,
        Err(error) => {
            return Finding::wrong(
                "certificate",
                format!("{name}: {error}"),
                "store a PEM file at this path",
            );
        }
    };
    let Some(dates) = certificates.iter().map(|der| dates(der)).collect::<Option<Vec<_>>>() else {
        return Finding::wrong(
            "certificate",
            format!("{name} contains no certificate"),
            "store a PEM file at this path",
        );
    };
    let (Some(begin), Some(end)) =
        (dates.iter().map(|(begin, _)| *begin).max(), dates.iter().map(|(_, end)| *end).min())
    else {
        return Finding::wrong(
            "certificate",
            format!("{name} contains no certificate"),
            "store a PEM file at this path",
        );
    };
    if certificates.iter().any(|der| is_version_1(der) == Some(true)) {
        let message = format!("the certificate in {name} is X.509 version 1");
        return match AUTHORITY_KEYS.contains(&key) {
            true => Finding::note("certificate", message, VERSION_ADVICE),
            false => Finding::wrong("certificate", message, VERSION_ADVICE),
        };
    }
    let message = format!("{name} is valid from {} to {}", begin.format("%Y-%m-%d"), end.format("%Y-%m-%d"));
    match () {
        () if now < begin => Finding::wrong(
            "certificate",
            message,
            "check the clock; if it is right, wait or renew the certificate",
        ),
        () if now > end => Finding::wrong("certificate", message, "renew the certificate"),
        () if (end - now).num_days() < EXPIRY_NOTICE_DAYS => {
            Finding::note("certificate", message, "renew the certificate soon")
        }
        () => Finding::ok("certificate", message),
    }
}

/// The content of TBSCertificate: version, serial, algorithm, issuer, validity.
fn body(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = value(certificate, SEQUENCE)?;
    value(outer, SEQUENCE).map(|(body, _)| body)
}

/// Version 1 is the default, and DER omits default values.
fn is_version_1(certificate: &[u8]) -> Option<bool> {
    body(certificate)?.first().map(|tag| *tag != VERSION)
}

/// Begin and end of the validity.
fn dates(certificate: &[u8]) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let mut rest = body(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = skip(rest)?;
    }
    for _ in ["serial", "algorithm", "issuer"] {
        rest = skip(rest)?;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (begin, rest) = instant(validity)?;
    Some((begin, instant(rest)?.0))
}

fn instant(der: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let tag = *der.first()?;
    let (digits, rest) = value(der, tag)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let text = match tag {
        // The year has two digits and is between 1950 and 2049.
        UTC_TIME if digits.get(..2)? < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    Some((NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc(), rest))
}

fn skip(der: &[u8]) -> Option<&[u8]> {
    value(der, *der.first()?).map(|(_, rest)| rest)
}

/// The content of the first element, which must have this tag, and the bytes after it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], mut rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f).min(size_of::<u32>()))?;
        length = bytes
            .iter()
            .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        rest = after;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::certs::Certificates;

    use super::*;
    use gatehouse_control::answers::Grade;

    #[test]
    fn certificates_are_graded_by_their_dates() {
        let folder = tempfile::tempdir().unwrap();
        let files = Certificates::make(folder.path()).unwrap();
        let der = CertificateDer::from_pem_file(&files.client).unwrap();
        let (begin, end) = dates(&der).unwrap();
        let grade = |now| finding("mqtt.cert_file", &files.client, now).grade;
        let second = chrono::TimeDelta::seconds(1);
        assert_eq!(grade(begin - second), Grade::Wrong);
        assert_eq!(grade(begin + second), Grade::Ok);
        assert_eq!(grade(end - chrono::TimeDelta::days(5)), Grade::Note);
        assert_eq!(grade(end + second), Grade::Wrong);
        assert_eq!(finding("mqtt.cert_file", &files.client_key, begin + second).grade, Grade::Wrong);
    }

    #[test]
    fn truncated_certificates_are_not_parsed() {
        let folder = tempfile::tempdir().unwrap();
        let files = Certificates::make(folder.path()).unwrap();
        let der = CertificateDer::from_pem_file(&files.client).unwrap();
        for end in 0..100 {
            assert_eq!(dates(&der[..end]), None);
        }
        assert_eq!(dates(&[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
