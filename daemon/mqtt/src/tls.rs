//! TLS to the broker: rustls with ring, the operator's authorities or those of the system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatehouse_config::Mqtt;
use gatehouse_tls::reason;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file could not be read.
    #[error("{key} {}: {message}; give a PEM file that the service may read", path.display())]
    Pem {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The system has no authorities.
    #[error("the system has no certificate authorities; install ca-certificates or set mqtt.ca_file")]
    NoRoots,
    /// The appliance's own certificate cannot be used.
    #[error("the appliance's own certificate, mqtt.cert_file {}: {message}", path.display())]
    OwnCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// rustls rejects the configuration.
    #[error("TLS: {}; check mqtt.cert_file and mqtt.key_file", reason(.0))]
    Rustls(#[from] rustls::Error),
}

/// The TLS client configuration from the settings. Blocking: files are read for each connection, so that a renewed
/// certificate is used without a restart.
pub(crate) fn client_config(mqtt: &Mqtt) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(mqtt.ca_file.as_deref())?);
    let config = match (&mqtt.cert_file, &mqtt.key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("mqtt.cert_file", cert)?;
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| pem("mqtt.key_file", key, &error))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|error| own_certificate(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = match ca_file {
        Some(path) => certificates("mqtt.ca_file", path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // One invalid certificate of the system must not disable the others.
    roots.add_parsable_certificates(found);
    match (roots.is_empty(), ca_file) {
        (false, _) => Ok(roots),
        (true, None) => Err(TlsError::NoRoots),
        (true, Some(path)) => {
            let message = "holds no certificate that can be used".to_owned();
            Err(TlsError::Pem { key: "mqtt.ca_file", path: path.to_owned(), message })
        }
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| pem(key, path, &error))
}

fn own_certificate(path: &Path, error: &rustls::Error) -> TlsError {
    TlsError::OwnCertificate { path: path.to_owned(), message: reason(error) }
}

fn pem(key: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Pem { key, path: path.to_owned(), message: error.to_string() }
}
