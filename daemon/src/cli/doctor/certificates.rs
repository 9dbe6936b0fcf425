//! Until when the certificates that the settings name are valid, and whether TLS takes their form. Of a certificate only
//! the version and the two dates are read; TLS judges whether it is genuine.

use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use gatehouse_config::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::control::answers::Finding;

/// Days before its end from which on a certificate is told of.
const NOTICE_DAYS: i64 = 30;
/// DER's tags.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
/// Keys of certificates that only sign others. TLS takes version 1 for these, other programs do not.
const AUTHORITIES: [&str; 3] = ["mqtt.ca_file", "central.objects.ca_file", "central.rows.ca_file"];
const VERSION_ADVICE: &str =
    "make it with an extension, see /usr/share/doc/gatehouse/examples/mosquitto/gatehouse.conf";

/// One finding for each file of certificates that the settings name.
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
            return Finding::wrong("certificate", format!("{name}: {error}"), "put a PEM file there");
        }
    };
    let Some(dates) = certificates.iter().map(|der| dates(der)).collect::<Option<Vec<_>>>() else {
        return Finding::wrong("certificate", format!("{name} holds no certificate"), "put a PEM file there");
    };
    let (Some(begin), Some(end)) =
        (dates.iter().map(|(begin, _)| *begin).max(), dates.iter().map(|(_, end)| *end).min())
    else {
        return Finding::wrong("certificate", format!("{name} holds no certificate"), "put a PEM file there");
    };
    if certificates.iter().any(|der| is_version_1(der) == Some(true)) {
        let words = format!("the certificate in {name} is X.509 version 1");
        return match AUTHORITIES.contains(&key) {
            true => Finding::note("certificate", words, VERSION_ADVICE),
            false => Finding::wrong("certificate", words, VERSION_ADVICE),
        };
    }
    let words = format!("{name} is valid from {} to {}", begin.format("%Y-%m-%d"), end.format("%Y-%m-%d"));
    match () {
        () if now < begin => {
            Finding::wrong("certificate", words, "is the clock right? Else wait, or renew it")
        }
        () if now > end => Finding::wrong("certificate", words, "renew it"),
        () if (end - now).num_days() < NOTICE_DAYS => Finding::note("certificate", words, "renew it soon"),
        () => Finding::ok("certificate", words),
    }
}

/// The content of TBSCertificate: version, serial, algorithm, issuer, validity.
fn body(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = value(certificate, SEQUENCE)?;
    value(outer, SEQUENCE).map(|(body, _)| body)
}

/// Version 1 is the default, and DER leaves a default out.
fn is_version_1(certificate: &[u8]) -> Option<bool> {
    body(certificate)?.first().map(|tag| *tag != VERSION)
}

/// First and last instant of a certificate.
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
        // Two digits of the year, from 1950 to 2049.
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

/// The content of the element of this tag at the beginning, and what follows it.
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
    use crate::control::answers::Grade;

    #[test]
    fn a_certificate_is_judged_by_its_dates() {
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
    fn bytes_that_are_no_certificate_are_none_wherever_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let files = Certificates::make(folder.path()).unwrap();
        let der = CertificateDer::from_pem_file(&files.client).unwrap();
        for end in 0..100 {
            assert_eq!(dates(&der[..end]), None);
        }
        assert_eq!(dates(&[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
