//! How much memory and time connections may take.
//!
//! Owns the limits, and their translation to what quinn calls them.
//!
//! Invariants
//!  M1. Between nodes, a stream that is not read never keeps another one of its connection from being written: the
//!      window of the connection is the sum of those of its streams. (Lanes of a client share it.)
//!                                                                  test `streams_do_not_share_windows`
//!
//! Bounds: a connection keeps at most ([`DATA_STREAMS_MAX`] + 1) windows of received bytes, and one more of sent ones.
//! Units: bytes, milliseconds.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Streams of data that one side of a connection may have open: one in use, and those that are being given up.
pub(super) const DATA_STREAMS_MAX: u32 = 3;
const WINDOW_BYTES_MIN: u64 = 4 << 20;
/// Far beyond any network, and far below what a QUIC number can say.
const WINDOW_BYTES_MAX: u64 = 1 << 32;
/// UDP payload of a packet, for networks with frames of 9000 bytes, and within one machine. What the path takes is found
/// out by probes; a packet costs about the same at any length. Quinn hands ten of them to the system at once, which takes
/// 65,507 bytes: what is more would be lost without an error.
pub(super) const PACKET_BYTES_MAX: u16 = 6550;
const IDLE_MS_MAX: u64 = 3_600_000;
/// Heartbeats and their answers are below a hundred bytes, and the old ones are of no use.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

/// What connections may take. The defaults suit nodes in one building on a gigabit network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How fast a stream is to become.
    pub bandwidth_bytes_per_second: u64,
    /// Over which distance. The window of a stream is the product of both, and at least 4 MiB.
    pub round_trip_ms: u64,
    /// After so long a silence a sign of life is sent.
    pub keep_alive_ms: u64,
    /// A connection on which nothing gets through for so long is given up.
    pub idle_ms: u64,
    /// So many connections are accepted at once; more are refused.
    pub connections_max: usize,
    /// So many lanes may be open at once on the connection of a client.
    pub lanes_max: u32,
    /// What is asked of the system for each direction of the socket.
    pub udp_buffer_bytes: usize,
    /// Whether several packets are handed to the system at once. Some networks cannot take it.
    pub gso: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bandwidth_bytes_per_second: 125_000_000,
            round_trip_ms: 20,
            keep_alive_ms: 200,
            idle_ms: 1500,
            connections_max: 1024,
            lanes_max: 256,
            udp_buffer_bytes: 8 << 20,
            gso: true,
        }
    }
}

impl Limits {
    /// The window of one stream, in bytes.
    pub(super) fn window_bytes(&self) -> u64 {
        let product = self.bandwidth_bytes_per_second.saturating_mul(self.round_trip_ms) / 1000;
        product.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }

    /// The same for all streams of a connection together.
    pub(super) fn connection_window_bytes(&self) -> u64 {
        self.window_bytes() * (u64::from(DATA_STREAMS_MAX) + 1)
    }

    /// For quinn; the other side may open so many streams in both directions.
    pub(super) fn transport(&self, streams_max: u32) -> Arc<TransportConfig> {
        let number = |value| VarInt::from_u64(value).expect("limits are clamped below 2^62");
        let idle = number(self.idle_ms.clamp(1, IDLE_MS_MAX));
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(PACKET_BYTES_MAX);
        let mut config = TransportConfig::default();
        config
            .mtu_discovery_config(Some(discovery))
            .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(DATA_STREAMS_MAX))
            .stream_receive_window(number(self.window_bytes()))
            .receive_window(number(self.connection_window_bytes()))
            // One window more: what was acknowledged counts until the whole buffer was.
            .send_window(self.connection_window_bytes() + self.window_bytes())
            .keep_alive_interval(Some(Duration::from_millis(self.keep_alive_ms.max(1))))
            .max_idle_timeout(Some(IdleTimeout::from(idle)))
            // Decides when the first lost packet is sent again; a third of a second is for the wide world.
            .initial_rtt(Duration::from_millis(self.round_trip_ms.clamp(10, 333)))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
            .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
            .enable_segmentation_offload(self.gso);
        Arc::new(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_do_not_share_windows() {
        let mut limits = Limits::default();
        assert_eq!(limits.window_bytes(), 4 << 20, "2.5 MB are raised");
        limits.bandwidth_bytes_per_second = 1_250_000_000;
        assert_eq!(limits.window_bytes(), 25_000_000);
        let data = limits.window_bytes() * u64::from(DATA_STREAMS_MAX);
        assert_eq!(limits.connection_window_bytes() - data, limits.window_bytes());
    }

    #[test]
    fn no_limit_is_too_large() {
        let limits = Limits {
            bandwidth_bytes_per_second: u64::MAX,
            round_trip_ms: u64::MAX,
            idle_ms: u64::MAX,
            ..Limits::default()
        };
        let _config = limits.transport(u32::MAX);
    }
}
