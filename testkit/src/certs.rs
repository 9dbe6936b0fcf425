//! A certificate authority for one test: a server's and a client's certificate.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// PEM files below one folder.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority that signed the others.
    pub ca: PathBuf,
    /// Certificate of `localhost` and 127.0.0.1.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// A client's certificate, common name `gatehouse`.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
    /// The same as the server's, but expired.
    pub expired: Leaf,
    /// An authority that signed none of them: for the test that a foreign one is refused.
    pub stranger_ca: PathBuf,
}

/// The years in which a valid and an expired certificate end.
const END: i32 = 4000;
const PASSED: i32 = 2001;

impl Certificates {
    /// The server's certificate and key.
    pub fn server(&self) -> Leaf {
        Leaf { certificate: self.server.clone(), key: self.server_key.clone() }
    }

    /// Makes them in `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make(folder: &Path) -> Result<Self> {
        Self::make_with(folder, &[])
    }

    /// Makes them in `folder`, with `NAME.pem` and `NAME.key` of further clients with these common names.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make_with(folder: &Path, clients: &[&str]) -> Result<Self> {
        let (authority, ca_pem) = authority("Gatehouse test authority")?;
        let (_, stranger_pem) = self::authority("Foreign authority")?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let (server, server_key) = leaf(&authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth, END)?;
        let (expired, expired_key) =
            leaf(&authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth, PASSED)?;
        let (client, client_key) = leaf(&authority, "gatehouse", ExtendedKeyUsagePurpose::ClientAuth, END)?;
        for name in clients {
            let (certificate, key) = leaf(&authority, name, ExtendedKeyUsagePurpose::ClientAuth, END)?;
            write(&format!("{name}.pem"), &certificate)?;
            write(&format!("{name}.key"), &key)?;
        }
        Ok(Self {
            ca: write("ca.pem", &ca_pem)?,
            server: write("server.pem", &server)?,
            server_key: write("server.key", &server_key)?,
            client: write("client.pem", &client)?,
            client_key: write("client.key", &client_key)?,
            expired: Leaf {
                certificate: write("expired.pem", &expired)?,
                key: write("expired.key", &expired_key)?,
            },
            stranger_ca: write("stranger-ca.pem", &stranger_pem)?,
        })
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((Issuer::new(params, key), certificate.pem()))
}

fn leaf(
    authority: &Issuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    end_year: i32,
) -> Result<(String, String)> {
    let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = rcgen::date_time_ymd(end_year, 1, 1);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
