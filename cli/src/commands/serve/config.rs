//! From what was asked for to what a server is started with.
//!
//! Owns what is refused before anything is touched.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use cairnlog_replication::server::ServerConfig;

use crate::args::{Coordination, ServeArgs};
use crate::exit::{Exit, Failure};

pub(super) fn of(args: &ServeArgs) -> Result<ServerConfig, Failure> {
    check_coordination(args.coordination)?;
    let mut config = ServerConfig::new(args.directory()?.to_owned());
    config.node = args.node_id;
    config.peers = args.members()?;
    config.listen = resolve(args.listen())?;
    config.tls_folder.clone_from(&args.tls_dir);
    config.engine = args.limits.config();
    let network = &args.network;
    if let Some(ms) = network.heartbeat_ms {
        config.heartbeat_interval = Duration::from_millis(ms);
    }
    config.degrade_after = network.degrade_after_ms.map(Duration::from_millis);
    if let Some(bytes) = network.window_bytes {
        config.window_bytes = bytes;
    }
    if let Some(bytes) = network.bandwidth_bytes_per_second {
        config.bandwidth_bytes_per_second = bytes;
    }
    if let Some(ms) = network.round_trip_ms {
        config.round_trip = Duration::from_millis(ms);
    }
    if let Some(gso) = network.gso {
        config.gso = gso.is_on();
    }
    Ok(config)
}

fn check_coordination(coordination: Coordination) -> Result<(), Failure> {
    let name = match coordination {
        Coordination::Manual => return Ok(()),
        Coordination::Quorum => "quorum",
        Coordination::Etcd => "etcd",
    };
    let text = format!("--coordination {name} is not built yet: only `manual` is");
    Err(Failure::new(Exit::Failed, text))
}

/// The first address of a name.
fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let failed = |error| Failure::io(&format!("--listen {address}"), &error);
    let first = address.to_socket_addrs().map_err(failed)?.next();
    first.ok_or_else(|| Failure::new(Exit::Failed, format!("--listen {address}: has no address")))
}
