//! A way to the hub's page from outside its network namespace. A Unix socket is no part of any: a process inside passes
//! its connections on to the hub's port, and the demo passes connections on the same port here to the socket. The hub's
//! own guard (Host, token, Origin) sees them unchanged.

use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::DemoError;
use crate::cli::input_ends;

/// What the process inside is told.
#[derive(Debug, clap::Args)]
pub(crate) struct ForwardArguments {
    /// The Unix socket to listen on.
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// Where to pass connections on to.
    #[arg(long)]
    pub(crate) to: std::net::SocketAddr,
}

/// Passes connections on until standard input ends.
pub(crate) async fn forward(arguments: ForwardArguments) -> Result<(), DemoError> {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::remove_file(&arguments.socket);
    let listener = UnixListener::bind(&arguments.socket).map_err(DemoError::io("the page's socket"))?;
    std::fs::set_permissions(&arguments.socket, std::fs::Permissions::from_mode(0o600))
        .map_err(DemoError::io("the page's socket"))?;
    let ended = input_ends();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            accepted = listener.accept() => {
                let Ok((mut inside, _)) = accepted else {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                let to = arguments.to;
                tokio::spawn(async move {
                    if let Ok(mut hub) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut inside, &mut hub).await;
                    }
                });
            }
        }
    }
}

/// Passes connections on this machine's own port on to the socket.
pub(super) fn serve_page(listener: TcpListener, socket: &Path) -> tokio::task::JoinHandle<()> {
    let socket = socket.to_owned();
    tokio::spawn(async move {
        loop {
            let Ok((mut outside, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut inside) = UnixStream::connect(&socket).await {
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                }
            });
        }
    })
}
