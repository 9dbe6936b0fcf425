//! Server of the control socket.
//!
//! The socket is created under a temporary name, gets its mode, and is then renamed. So it is never open to other users, and
//! the rename replaces the stale socket of a killed process. There is one role: root, our user and our group may send any
//! request. The number of connections, the size of a request and all times are bounded.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Services;
use super::connection::serve;
use crate::supervise::stopped;

/// Connections at a time: enough for operators and scripts, and few enough for the memory, because each may hold a request
/// of half a megabyte.
pub const CONNECTIONS_MAX: usize = 16;
/// Delay after a failed accept, such as without file descriptors, to avoid a hot loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Read and write for our user and our group.
const SOCKET_MODE: u32 = 0o660;

/// Access for our group.
const FOLDER_MODE: u32 = 0o750;

/// Why the control socket cannot be created.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another process answers there.
    #[error("another daemon answers at {}; give each its own control.socket", .0.display())]
    InUse(PathBuf),
    /// The path is not a socket.
    #[error("{} is not a socket; remove it or set control.socket to another path", .0.display())]
    NotSocket(PathBuf),
    /// The system reports an error.
    #[error("cannot create the control socket {}: {source}; check control.socket and its folder", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// A bound control socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds `path`. From here on connections queue until [`Server::run`] serves them.
    ///
    /// # Errors
    /// [`ControlError`] if the path is in use or cannot be used.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let at = |source| ControlError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(ControlError::NotSocket(path.to_owned()));
            }
            // A socket file outlives its process, so only a successful connection means that it is in use.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ControlError::InUse(path.to_owned()));
            }
            _ => {}
        }
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(at)?;
        }
        let working = working_name(path);
        match std::fs::remove_file(&working) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&working).map_err(at)?;
        std::fs::set_permissions(&working, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(at)?;
        std::fs::rename(&working, path).map_err(at)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` is true. Then it accepts no connection, closes idle ones, and completes requests in progress. It
    /// removes the socket at the end.
    pub async fn run(self, services: Arc<Services>, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => self.start(&mut connections, stream, &services, &stop),
                    Err(error) => {
                        warn!(%error, "control connection not accepted");
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, "control socket was already removed");
        }
        while connections.join_next().await.is_some() {}
    }

    fn start(
        &self,
        connections: &mut JoinSet<()>,
        stream: UnixStream,
        services: &Arc<Services>,
        stop: &watch::Receiver<bool>,
    ) {
        let services = Arc::clone(services);
        let stop = stop.clone();
        let mode = std::fs::metadata(&self.path).map_or(0, |meta| meta.permissions().mode());
        connections.spawn(async move {
            if let Err(error) = serve(stream, mode, &services, stop).await {
                debug!(%error, "control connection failed");
            }
        });
    }
}

/// Creates the folder with access for our group. An existing folder is not changed.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(FOLDER_MODE))
}

fn working_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let first = Server::bind(&path).unwrap();
        assert!(matches!(Server::bind(&path), Err(ControlError::InUse(_))));
        drop(first);
        let _second = Server::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Server::bind(&path), Err(ControlError::NotSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
