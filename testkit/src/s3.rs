//! An S3 server in this process: `s3s` with files below a temporary folder. Signatures are enforced.
//!
//! It runs on its own thread, so that it can be stopped like a server that crashes. All connections are closed at once,
//! the files stay, and the next start uses the same port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::folder::Folder;
use crate::objects::Objects;
use crate::ports;

mod backend;
mod manner;

pub use manner::Manner;

/// Access key of every server.
const ACCESS_KEY: &str = "gatehouse";
/// Secret key of every server.
const SECRET_KEY: &str = "gatehouse-secret";
/// Region of the signatures.
const REGION: &str = "us-east-1";

/// A server on a free port; stopped on drop.
#[derive(Debug)]
pub struct S3Server {
    folder: Folder,
    port: u16,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    switches: Arc<Switches>,
}

/// State that a test reads and changes while the server runs.
#[derive(Debug, Default)]
struct Switches {
    requests: AtomicU64,
    manner: Mutex<Manner>,
}

impl Switches {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S3Server {
    /// Starts a server with an empty folder.
    ///
    /// # Errors
    /// If the port or the folder cannot be had.
    pub fn start() -> Result<Self> {
        let folder = Folder::new("s3")?;
        let server =
            Self { folder, port: ports::free_port()?, running: Mutex::default(), switches: Arc::default() };
        server.restart()?;
        Ok(server)
    }

    /// Endpoint and credentials.
    pub fn objects(&self) -> Objects {
        Objects {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: REGION.into(),
            access_key: ACCESS_KEY.into(),
            secret_key: SECRET_KEY.into(),
        }
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its files: a folder per bucket, a file per object.
    pub fn files(&self) -> &Path {
        self.folder.path()
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> u64 {
        self.switches.requests.load(Ordering::Relaxed)
    }

    /// Sets the behavior from now on, also for open connections.
    pub fn behave(&self, manner: Manner) {
        *self.switches.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// Stops it at once; its port then refuses connections.
    ///
    /// # Errors
    /// If its thread panicked.
    pub fn stop(&self) -> Result<()> {
        let running =
            self.running.lock().map_err(|_| anyhow!("a test panicked while it held the server"))?.take();
        if let Some((stop, thread)) = running {
            let _ = stop.send(());
            thread.join().map_err(|_| anyhow!("the S3 server panicked"))?;
        }
        Ok(())
    }

    /// Starts it again on the same port with the same files. Does nothing if it runs. Lifecycle rules are lost.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub fn restart(&self) -> Result<()> {
        let mut running =
            self.running.lock().map_err(|_| anyhow!("a test panicked while it held the server"))?;
        if running.is_some() {
            return Ok(());
        }
        let files = FileSystem::new(self.folder.path()).map_err(|e| anyhow!("s3s-fs: {e:?}"))?;
        let mut builder = S3ServiceBuilder::new(backend::Backend::new(files));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Bound here, so that the caller gets the error. A caller inside a runtime cannot wait for another one.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = std::net::TcpListener::bind(address).context("the S3 server's port")?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let switches = self.switches.clone();
        let thread = std::thread::Builder::new().name("s3-server".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(listener, service, switches) => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime drops every connection.
        })?;
        *running = Some((stop, thread));
        Ok(())
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service, switches: Arc<Switches>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (service, switches) = (service.clone(), switches.clone());
        let handler = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            switches.requests.fetch_add(1, Ordering::Relaxed);
            let manner = switches.manner();
            let service = service.clone();
            async move {
                match manner.instead(&request) {
                    Some(answer) => Ok(answer),
                    // Completed even if the client disconnects: a real server leaves no object without its metadata.
                    None => tokio::spawn(async move { service.call(request.map(Body::from)).await })
                        .await
                        .map_err(anyhow::Error::from)?
                        .map(|answer| manner.spoil(answer))
                        .map_err(|error| anyhow!("{error:?}")),
                }
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(socket), handler));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_outlive_a_stop_and_wrong_keys_are_refused() {
        let server = S3Server::start().unwrap();
        let objects = server.objects();
        objects.create_bucket("bucket").await.unwrap();
        objects.put("bucket", "a/b/c.txt", b"hello".to_vec()).await.unwrap();
        server.stop().unwrap();
        assert!(objects.get("bucket", "a/b/c.txt").await.is_err());
        server.restart().unwrap();
        assert_eq!(objects.list("bucket", "").await.unwrap(), ["a/b/c.txt"]);
        assert_eq!(objects.get("bucket", "a/b/c.txt").await.unwrap(), b"hello");
        server.behave(Manner::Refuses(503, "SlowDown"));
        assert!(objects.get("bucket", "a/b/c.txt").await.is_err());
        server.behave(Manner::Serves);
        let wrong = Objects { secret_key: "wrong".into(), ..objects };
        assert!(wrong.get("bucket", "a/b/c.txt").await.is_err());
    }
}
