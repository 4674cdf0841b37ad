//! Telling systemd, which asks for it with `Type=notify`: a datagram to the socket in `NOTIFY_SOCKET`.
//!
//! Owns the two messages. Nothing waits for them, and that nobody hears them is no failure.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

pub(super) fn ready() {
    tell("READY=1");
}

pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(message: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Nobody is left to tell when this fails.
    let _ = send(&name, message);
}

fn send(name: &OsStr, message: &str) -> io::Result<usize> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address_of(name)?)
}

/// A path, or behind an `@` a name of the abstract kind, which only Linux has.
fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(abstract_name) = name.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(abstract_name);
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_are_heard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let mut names = vec![path.into_os_string()];
        if cfg!(target_os = "linux") {
            names.push(format!("@cairnlog-test-{}", std::process::id()).into());
        }
        for name in names {
            let heard = UnixDatagram::bind_addr(&address_of(&name).unwrap()).unwrap();
            send(&name, "READY=1").unwrap();
            let mut buffer = [0; 64];
            let length = heard.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(send(OsStr::new("/nonexistent/socket"), "READY=1").is_err());
    }
}
