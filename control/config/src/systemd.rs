//! What the daemons tell systemd (sd_notify(3)): start, watchdog, state, end.
//!
//! Never waits. Whoever listens may have stopped reading: a watchdog's message that does not fit is one that is not sent, and
//! no reason for the control thread or for housekeeping to stand still.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends assignments such as `READY=1`, one a line. Without systemd, or when it does not listen, nothing happens.
pub fn notify(state: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        // Nobody can be helped who does not listen.
        let _ = send(path.as_encoded_bytes(), state);
    }
}

fn send(path: &[u8], state: &str) -> std::io::Result<usize> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_does_not_read_makes_nobody_wait() {
        let path = std::env::temp_dir().join(format!("cordon-notify-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).expect("a socket");
        // Linux keeps net.unix.max_dgram_qlen of them, 10 or 512; a socket that blocks would stop this test here.
        let sent =
            (0..100_000).take_while(|_| send(path.as_os_str().as_bytes(), "WATCHDOG=1").is_ok()).count();
        assert!(sent > 0 && sent < 100_000, "{sent}");
        let mut buffer = [0; 32];
        let n = listener.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..n], b"WATCHDOG=1");
        std::fs::remove_file(&path).expect("the socket's file");
    }

    #[test]
    fn abstract_sockets_have_an_at_sign() {
        let name = format!("cordon-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("a name");
        let listener = UnixDatagram::bind_addr(&address).expect("a socket");
        send(format!("@{name}").as_bytes(), "READY=1").expect("sent");
        let mut buffer = [0; 32];
        let n = listener.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..n], b"READY=1");
    }
}
