//! Readable texts for TLS failures. rustls shows some only as names of variants, such as
//! `Other(OtherError(UnsupportedCertVersion))`. The connections to the broker and to the central services share these
//! texts.

use std::error::Error as StdError;

use rustls::CertificateError;

/// What a certificate of version 1 lacks. webpki names this fault, and has no type for it here.
const VERSION_ONE: &str = "it is of X.509 version 1: create it again with an extension";
const VERSION_ONE_VARIANT: &str = "UnsupportedCertVersion";

/// The TLS failure in the chain of causes, if there is one.
pub fn failure<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error hides what it wraps from `source`.
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}

/// The failure as a clause. The caller must say whose certificate it is.
pub fn reason(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(why) => certificate_reason(why),
        E::AlertReceived(alert) => format!("the peer refuses ({})", spaced(&format!("{alert:?}"))),
        E::InvalidMessage(_) => "the peer does not speak TLS".to_owned(),
        E::InconsistentKeys(_) => "certificate and key do not match".to_owned(),
        other => other.to_string(),
    }
}

/// What is wrong with a certificate, as a clause about it.
pub fn certificate_reason(why: &CertificateError) -> String {
    use CertificateError as C;
    match why {
        C::BadEncoding => "it is damaged".to_owned(),
        C::Expired | C::ExpiredContext { .. } => "it has expired".to_owned(),
        C::NotValidYet | C::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        C::Revoked => "it is revoked".to_owned(),
        C::UnknownIssuer => "it is signed by an unknown authority".to_owned(),
        C::BadSignature => "its signature is wrong".to_owned(),
        C::NotValidForName => "it is for another name".to_owned(),
        C::NotValidForNameContext { .. } => why.to_string(),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "its extendedKeyUsage is for another purpose".to_owned()
        }
        C::Other(other) if other.0.to_string() == VERSION_ONE_VARIANT => VERSION_ONE.to_owned(),
        C::Other(other) => spaced(&other.0.to_string()),
        other => spaced(&other.to_string()),
    }
}

/// The name of a variant as words: `UnknownCA` becomes `unknown ca`. Text with blanks is not changed.
fn spaced(name: &str) -> String {
    if name.contains(' ') {
        return name.to_owned();
    }
    let mut text = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if letter.is_uppercase() && was_lower {
            text.push(' ');
        }
        was_lower = letter.is_lowercase();
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{AlertDescription, OtherError};

    use super::*;

    #[test]
    fn no_reason_shows_the_name_of_a_variant() {
        let version_one = OtherError(Arc::new(std::io::Error::other(VERSION_ONE_VARIANT)));
        let version_one = rustls::Error::InvalidCertificate(CertificateError::Other(version_one));
        assert_eq!(reason(&version_one), VERSION_ONE);
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(reason(&expired), "it has expired");
        let refused = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert_eq!(reason(&refused), "the peer refuses (unknown ca)");
        let odd = rustls::Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension);
        assert_eq!(reason(&odd), "unhandled critical extension");
    }

    #[test]
    fn a_failure_is_found_below_errors_of_input_and_output() {
        let inner = std::io::Error::other(rustls::Error::HandshakeNotComplete);
        let error = std::io::Error::other(inner);
        assert!(matches!(failure(&error), Some(rustls::Error::HandshakeNotComplete)));
        assert!(failure(&std::io::Error::other("words")).is_none());
    }
}
