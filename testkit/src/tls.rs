//! TLS in front of a server without TLS. Its certificate can be changed while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::certs::Leaf;
use crate::ports;

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// With its first byte, as HTTPS does.
    AtOnce,
    /// After a request of the client, as with Postgres.
    Postgres,
}

/// A TLS server on a free port; stopped on drop.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    shown: watch::Sender<Arc<ServerConfig>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Starts a server in front of a port of 127.0.0.1 that presents this certificate.
    ///
    /// # Errors
    /// If no port or thread can be had, or the certificate cannot be read.
    pub fn start(target: u16, opening: Opening, leaf: &Leaf) -> Result<Self> {
        Self::serving(target, opening, config(leaf, None)?)
    }

    /// As [`TlsFront::start`], but only for clients with a certificate of this authority.
    ///
    /// # Errors
    /// As [`TlsFront::start`].
    pub fn asking(target: u16, opening: Opening, leaf: &Leaf, authority: &Path) -> Result<Self> {
        Self::serving(target, opening, config(leaf, Some(authority))?)
    }

    fn serving(target: u16, opening: Opening, config: Arc<ServerConfig>) -> Result<Self> {
        let port = ports::free_port()?;
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        listener.set_nonblocking(true)?;
        let (shown, config) = watch::channel(config);
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("tls".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, target, opening, config) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { port, shown, end: Some(end), thread: Some(thread) })
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Presents another certificate to new connections, and requests none from clients.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn show(&self, leaf: &Leaf) -> Result<()> {
        self.shown.send(config(leaf, None)?).map_err(|_| anyhow!("the TLS server has ended"))
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(leaf: &Leaf, authority: Option<&Path>) -> Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(&leaf.certificate)?];
    let key = PrivateKeyDer::from_pem_file(&leaf.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = match authority {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(authority)?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build()?)
        }
    };
    Ok(Arc::new(config.with_single_cert(chain, key)?))
}

async fn accept(
    listener: TcpListener,
    target: u16,
    opening: Opening,
    config: watch::Receiver<Arc<ServerConfig>>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let acceptor = TlsAcceptor::from(config.borrow().clone());
        tokio::spawn(serve(client, target, opening, acceptor));
    }
}

async fn serve(
    mut client: TcpStream,
    target: u16,
    opening: Opening,
    acceptor: TlsAcceptor,
) -> std::io::Result<()> {
    if opening == Opening::Postgres {
        let mut request = [0; 8];
        client.read_exact(&mut request).await?;
        client.write_all(b"S").await?;
    }
    let mut inside = acceptor.accept(client).await?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    tokio::io::copy_bidirectional(&mut inside, &mut server).await.map(drop)
}
