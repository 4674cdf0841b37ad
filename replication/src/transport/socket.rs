//! UDP sockets with large buffers.
//!
//! Owns the options of sockets. That the system grants less than was asked is no error: it costs throughput, and is
//! reported as a warning.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// A socket on this address, and what is not as it was asked for.
pub(super) fn open(
    address: SocketAddr,
    buffer_bytes: usize,
) -> io::Result<(UdpSocket, Vec<String>)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let mut warnings = Vec::new();
    if address.is_ipv6() && address.ip().is_unspecified() && socket.set_only_v6(false).is_err() {
        warnings.push("the socket takes no IPv4".to_owned());
    }
    if let Err(error) = socket.set_recv_buffer_size(buffer_bytes) {
        warnings.push(format!("the buffer for receiving could not be set: {error}"));
    }
    if let Err(error) = socket.set_send_buffer_size(buffer_bytes) {
        warnings.push(format!("the buffer for sending could not be set: {error}"));
    }
    let granted = [
        ("receiving", "net.core.rmem_max", socket.recv_buffer_size()?),
        ("sending", "net.core.wmem_max", socket.send_buffer_size()?),
    ];
    for (direction, setting, got) in granted {
        // Linux counts its own overhead and says twice what there is.
        let got = if cfg!(target_os = "linux") { got / 2 } else { got };
        if got < buffer_bytes {
            warnings.push(format!(
                "the UDP buffer for {direction} has {got} of {buffer_bytes} bytes: raise {setting}"
            ));
        }
    }
    socket.bind(&address.into())?;
    Ok((socket.into(), warnings))
}
