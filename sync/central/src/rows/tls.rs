//! TLS to central Postgres: rustls with ring, the CA file of the settings or the public authorities.
//!
//! TLS is required if `ca_file` or `cert_file` is set, with `sslmode=require`, or if the server is another machine.
//! The certificate of the server must be valid for `ca_file`, or else for the public authorities. Only
//! `sslmode=disable` allows plain connections to another machine. Connections to this machine are plain unless a
//! setting requires TLS.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

use gatehouse_config::Rows;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};

use crate::error::{SyncError, error_text};

/// Whether TLS is required.
pub(super) fn wanted(config: &tokio_postgres::Config, rows: &Rows) -> Result<bool, SyncError> {
    let given = rows.ca_file.is_some() || rows.cert_file.is_some();
    match (config.get_ssl_mode(), given) {
        (SslMode::Disable, true) => Err(SyncError::Setup(
            "central.rows: the certificates ask for TLS and sslmode=disable forbids it; leave out one of the two"
                .to_owned(),
        )),
        (SslMode::Disable, false) => Ok(false),
        (SslMode::Prefer, false) => Ok(!config.get_hosts().iter().all(is_here)),
        _ => Ok(true),
    }
}

/// Whether the host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// The TLS configuration. It reads the files for each connection, so that a renewed certificate needs no restart.
pub(super) fn client(rows: &Rows) -> Result<ClientConfig, SyncError> {
    let unusable = |error: rustls::Error| SyncError::Setup(format!("TLS: {}", error_text(&error)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(rows.ca_file.as_deref())?);
    let (Some(cert), Some(key)) = (&rows.cert_file, &rows.key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("central.rows.cert_file", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| pem("central.rows.key_file", key, &e))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| pem("central.rows.cert_file", cert, &error))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SyncError> {
    const KEY: &str = "central.rows.ca_file";
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(KEY, path)? {
                roots.add(certificate).map_err(|e| pem(KEY, path, &e))?;
            }
        }
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SyncError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    let found = read.map_err(|e| pem(key, path, &e))?;
    if found.is_empty() {
        return Err(SyncError::Setup(format!("{key} {}: holds no certificate", path.display())));
    }
    Ok(found)
}

fn pem(key: &str, path: &Path, error: &(dyn StdError + 'static)) -> SyncError {
    SyncError::Setup(format!("{key} {}: {}", path.display(), error_text(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(url: &str, ca_file: Option<&str>) -> Rows {
        let ca_file = ca_file.map(Into::into);
        Rows { url: url.into(), password_file: None, ca_file, cert_file: None, key_file: None }
    }

    fn tls(url: &str, ca_file: Option<&str>) -> Option<bool> {
        wanted(&url.parse().unwrap(), &rows(url, ca_file)).ok()
    }

    #[test]
    fn another_machine_is_spoken_to_plainly_only_where_it_is_asked_for() {
        assert_eq!(tls("postgres://u@db.example/x", None), Some(true));
        assert_eq!(tls("postgres://u@db.example/x?sslmode=prefer", None), Some(true));
        assert_eq!(tls("postgres://u@db.example/x?sslmode=disable", None), Some(false));
        assert_eq!(tls("postgres://u@127.0.0.1/x", None), Some(false));
        assert_eq!(tls("postgres://u@[::1]/x", None), Some(false));
        assert_eq!(tls("postgres://u@localhost/x?sslmode=require", None), Some(true));
        assert_eq!(tls("postgres://u@localhost/x", Some("ca.pem")), Some(true));
        assert_eq!(tls("postgres://u@localhost/x?sslmode=disable", Some("ca.pem")), None);
    }

    #[test]
    fn a_certificate_file_that_is_none_is_said_in_words() {
        for path in ["/nonexistent/ca.pem", "/dev/null"] {
            let signing = Rows {
                cert_file: Some(path.into()),
                key_file: Some(path.into()),
                ..rows("postgres://u@db.example/x", None)
            };
            for (rows, key) in [(rows(&signing.url, Some(path)), "ca_file"), (signing, "cert_file")] {
                let error = client(&rows).unwrap_err();
                assert!(error.stops_sink() && error.to_string().contains(path), "{error}");
                assert!(error.to_string().contains(key), "{error}");
            }
        }
    }
}
