use std::io::{Read, Write};
use std::net::TcpListener;

use gatehouse_testkit::certs::Certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::check;
use super::*;
use crate::error::SyncError;

/// What the server answers to everything: the mark of `dev`.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"environment\":\"dev\"}";

/// A TLS server on localhost that knows one answer; its thread ends with the process.
fn serve(certificates: &Certificates) -> Looker {
    let chain = CertificateDer::pem_file_iter(&certificates.server).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&certificates.server_key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            let mut request = [0; 16 * 1024];
            if stream.read(&mut request).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(ANSWER);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    Looker {
        endpoint: format!("https://localhost:{port}"),
        region: "us-east-1".into(),
        access_key: "gatehouse".into(),
        secret_key: "gatehouse-secret".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_of_the_named_authority_is_believed() {
    let device = Device::new();
    let certificates = Certificates::make(device.folder.path()).unwrap();
    let looker = serve(&certificates);

    let ours = format!("ca_file = {:?}", certificates.ca);
    let objects = Objects::open(&device.config(&looker, "dev", &ours), Limits::default()).unwrap();
    objects.guard().await.unwrap();

    let strange = format!("ca_file = {:?}", certificates.stranger_ca);
    for more in ["", strange.as_str()] {
        let config = device.config(&looker, "dev", more);
        let error = Objects::open(&config, Limits::default()).unwrap().guard().await.unwrap_err();
        assert!(matches!(error, SyncError::Certificate { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        let findings = check(&config).await;
        let bad = findings.iter().find(|finding| !finding.ok).unwrap();
        assert!(bad.what.ends_with("TLS"), "{findings:?}");
        assert!(bad.advice.as_deref().unwrap().contains("ca_file"), "{findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_is_reported() {
    let (device, server) = (Device::new(), S3Server::start().unwrap());
    let endpoint = format!("https://127.0.0.1:{}", server.port());
    let looker = Looker { endpoint, ..server.objects() };
    let findings = check(&device.config(&looker, "dev", "")).await;
    let bad = findings.iter().find(|finding| !finding.ok).unwrap();
    assert!(bad.what.ends_with("TLS"), "{findings:?}");
}
