//! What goes on in the office's thread.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use prometheus::Registry;

use super::{BEAT, Courier, Heart, Hooks, api, gobgp, http};

/// A listening socket that outlives offices: a new one goes on with it while an old one hangs.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    bound: OnceLock<TcpListener>,
}

impl Door {
    pub(super) fn new(address: SocketAddr) -> Door {
        Door { address, bound: OnceLock::new() }
    }

    /// The socket, once more.
    pub(super) fn listener(&self) -> io::Result<TcpListener> {
        if let Some(bound) = self.bound.get() {
            return bound.try_clone();
        }
        let bound = TcpListener::bind(self.address)
            .map_err(|e| io::Error::new(e.kind(), format!("bind {}: {e}", self.address)))?;
        bound.set_nonblocking(true)?;
        let mine = bound.try_clone()?;
        // Nobody else binds it: offices are opened one after the other.
        let _ = self.bound.set(bound);
        Ok(mine)
    }
}

/// Everything that an office needs for its work.
pub(super) struct Rooms {
    pub(super) listener: Option<TcpListener>,
    pub(super) registry: Registry,
    pub(super) site: Option<Arc<api::Site>>,
    pub(super) speaker: Arc<gobgp::Speaker>,
    pub(super) courier: Courier,
    pub(super) hooks: Hooks,
}

/// Works until the heart is no longer wanted; says why it ended.
pub(super) fn run(rooms: Rooms, heart: &Heart) -> String {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(r) => r,
        Err(e) => return format!("starting the runtime: {e}"),
    };
    let Rooms { listener, registry, site, speaker, courier, hooks } = rooms;
    let why = runtime.block_on(async {
        let api = async {
            match site {
                Some(site) => api::serve(site).await,
                None => pending().await,
            }
        };
        tokio::select! {
            ended = http::serve(listener, registry) => ended,
            ended = api => ended,
            ended = courier.run() => ended,
            ended = hooks.run() => ended,
            () = gobgp::keep(&speaker) => "the BGP speaker's keeper ended".to_owned(),
            () = beat(heart) => "another one has taken over".to_owned(),
        }
    });
    // A file that hangs must not keep the office from ending.
    runtime.shutdown_background();
    why
}

async fn beat(heart: &Heart) {
    let mut pulse = tokio::time::interval(BEAT);
    while heart.beat() {
        pulse.tick().await;
    }
}
