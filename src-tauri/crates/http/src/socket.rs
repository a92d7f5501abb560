//! The Unix socket in the data folder: how another process of the same person hands its requests to the owner.
//!
//! No token: only this user may open the file (mode 0600), and the kernel tells who is at the other end.

use crate::guard::Guard;
use crate::router::build;
use crate::surface::InFlight;
use app::App;
use axum::serve::Listener;
use domain::{ApiError, ErrorCode};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream, unix};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The owner's end; the file is removed when it is finished.
pub struct ServedSocket {
    path: PathBuf,
    in_flight: InFlight,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ServedSocket {
    /// Requests of other processes under way, their open streams included.
    pub fn in_flight(&self) -> usize {
        // One clone is ours, one the surface's.
        self.in_flight.count(2)
    }

    /// Stops answering and removes the file. Requests under way get a moment.
    pub async fn finish(self) {
        let Self { path, stop, mut task, .. } = self;
        let _ = stop.send(());
        if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
            task.abort();
        }
        let _ = fs::remove_file(&path);
    }
}

/// Serves the whole surface on a socket at `path`, replacing one that a killed owner left behind.
///
/// Call it only while holding the data folder's lock: that is what makes an existing socket a stale one.
///
/// # Errors
/// `Storage` when the socket cannot be made there.
pub async fn serve_socket(app: Arc<App>, path: &Path) -> Result<ServedSocket, ApiError> {
    let (listener, owner) = bind(path).map_err(|error| {
        ApiError::new(ErrorCode::Storage, format!("The socket {} could not be made: {error}.", path.display()))
            .hint("Other inkling commands cannot use this one until its folder is writable and on a local disk.")
    })?;
    let in_flight = InFlight::default();
    let router = build(app, Guard::Socket, in_flight.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let signal = async move { drop(stopped.await) };
        if let Err(error) = axum::serve(OwnSocket { listener, owner }, router).with_graceful_shutdown(signal).await {
            tracing::error!(%error, "the socket ended");
        }
    });
    Ok(ServedSocket { path: path.to_owned(), in_flight, stop, task })
}

/// Connects to an owner's socket.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Makes the socket in a folder that only we may enter and moves it into place, so that at no moment anybody else could
/// open it; the umask would do that too, but belongs to the whole process.
fn bind(path: &Path) -> io::Result<(UnixListener, u32)> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    let made = folder.join(format!(".sock-{}", std::process::id()));
    let _ = fs::remove_dir_all(&made);
    fs::DirBuilder::new().mode(0o700).create(&made)?;
    let bound = (|| {
        let fresh = made.join("s");
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        Ok((listener, fs::symlink_metadata(path)?.uid()))
    })();
    let _ = fs::remove_dir_all(&made);
    bound
}

/// Accepts only connections of the user that owns the socket.
struct OwnSocket {
    listener: UnixListener,
    owner: u32,
}

impl Listener for OwnSocket {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner) => return (stream, address),
                Ok(_) => tracing::warn!("refused a connection of another user"),
                // Out of file descriptors, most likely: wait for some to be freed.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
