//! The daemon's end of the control socket.
//!
//! The socket is made under a working name, given its mode, and only then renamed into place, so that it is never
//! open to more people than it should be and the stale socket of a killed process is replaced in the same step.
//! Whoever may open it (root, our user, our group) may give any order: there is one role. Everything is bounded:
//! connections, bytes of a request, the time to send one, the time to answer it.

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

/// Connections at a time: some operators and scripts, and no more than that could ever hold in memory
/// (each up to one request of half a megabyte).
pub const CONNECTIONS_MAX: usize = 16;
/// Rest after a failed accept (out of file descriptors), so that it does not become a hot loop.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// Read and write for our user and our group.
const SOCKET_MODE: u32 = 0o660;

/// Enter for our group.
const FOLDER_MODE: u32 = 0o750;

/// Why the control socket cannot be offered.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another process answers there.
    #[error("another daemon answers at {}; give each its own control.socket", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{} is not a socket; remove it or set control.socket to another path", .0.display())]
    NotSocket(PathBuf),
    /// The system refuses.
    #[error("cannot offer the control socket {}: {source}; check control.socket and its folder", path.display())]
    Io {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
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
    /// Binds `path`; from here on connections queue up, and [`Server::run`] answers them.
    ///
    /// # Errors
    /// [`ControlError`] where the path is taken or cannot be used.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let at = |source| ControlError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(ControlError::NotSocket(path.to_owned()));
            }
            // A socket file outlives its process: only somebody who answers makes it taken.
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

    /// Answers until `stop` turns true; then no new connection is taken, idle ones end, and answers under way
    /// are finished. The socket is gone at the end.
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
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                }
            }
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, "control socket was gone already");
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
                debug!(%error, "control connection broke");
            }
        });
    }
}

/// A folder made here can be entered by our group; one that is there is left as it is.
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
