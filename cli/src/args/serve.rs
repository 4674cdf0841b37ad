//! `serve`: one node, and what it has to know of the others.
//!
//! Owns its flags, how peers are written, and what the addresses are when nobody says. A file (see `file`)
//! may say whatever a flag can.
//!
//! Bounds: [`MEMBERS_MAX`] nodes, [`ADDRESSES_MAX`] addresses of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::wire::frame::MEMBERS_MAX;
use clap::{Args as ClapArgs, ValueEnum};

use super::limits::Limits;
use super::place::parse_address;
use super::values::{Switch, parse_bytes};
use crate::exit::{Exit, Failure};

const LISTEN: &str = "127.0.0.1:7400";
const ADDRESSES_MAX: usize = 16;

/// Hold a log for clients, alone or as one of several nodes that replicate it.
///
/// Makes the directory if there is none. `serve --dir DIR` alone is a complete server for this machine.
/// With --peer, for all nodes, this one included, it is one of them: nobody leads before `promote`.
///
/// Says on standard error when it serves, and to systemd if that asks (Type=notify). SIGTERM and SIGINT end
/// it in good order, exit code 0; exit code 3 when the storage failed.
///
/// The HTTP address has /livez (this process works, whatever the others do), /readyz (it can do its part
/// for clients), /status (JSON) and /metrics (Prometheus).
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct ServeArgs {
    /// A file in TOML that says what no flag and no variable does. Its keys are the flags with `_` for `-`,
    /// like `segment_bytes = "64MiB"`; `peer` is a list.
    #[arg(long, value_name = "FILE", env = "CAIRNLOG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The directory of the log.
    #[arg(long, value_name = "DIR", env = "CAIRNLOG_DIR")]
    dir: Option<PathBuf>,
    /// The number of this node, from 1 on.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_node,
          env = "CAIRNLOG_NODE_ID")]
    pub(crate) node_id: NodeId,
    /// Where to listen for clients and other nodes, QUIC over UDP. [default: the first address of this
    /// node's --peer, or 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR", value_parser = parse_address, env = "CAIRNLOG_LISTEN")]
    listen: Option<String>,
    /// Where to answer HTTP: /livez, /readyz, /status, /metrics. Not encrypted, and open to all who reach
    /// it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480", value_parser = parse_address,
          env = "CAIRNLOG_HTTP")]
    pub(crate) http: String,
    /// The certificates of this node: the folder `node-N` that `cert dev` makes. Without it, it listens on
    /// this machine only, with a throw-away certificate.
    #[arg(long, value_name = "DIR", env = "CAIRNLOG_TLS_DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
    /// A node and where it is, this one included, once for each; a node may have several addresses. In
    /// the environment, spaces go between nodes.
    #[arg(long = "peer", value_name = "ID=ADDR[,ADDR]", value_delimiter = ' ',
          value_parser = parse_peer, env = "CAIRNLOG_PEER")]
    pub(crate) peers: Vec<Peer>,
    /// Who says which node leads.
    #[arg(long, value_enum, default_value_t = Coordination::Manual, env = "CAIRNLOG_COORDINATION")]
    pub(crate) coordination: Coordination,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Limits towards other nodes; what is not said is the server's own default.
#[derive(Debug, ClapArgs)]
pub(crate) struct Network {
    /// A leader is heard so often by its followers, 1 to 60000.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=60_000),
          env = "CAIRNLOG_HEARTBEAT_MS")]
    pub(crate) heartbeat_ms: Option<u64>,
    /// When no quorum has acknowledged anything for so long, acknowledge `quorum` and `all` at `local`, and say so
    /// in every answer, until a quorum has caught up. What was acknowledged so is lost if another node takes over
    /// meanwhile. [default: wait for the quorum]
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..),
          env = "CAIRNLOG_DEGRADE_AFTER_MS")]
    pub(crate) degrade_after_ms: Option<u64>,
    /// On the way to a follower at most; beyond it, it is served from the disk.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_WINDOW_BYTES")]
    pub(crate) window_bytes: Option<u64>,
    /// What the network carries, from which its buffers follow.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes,
          env = "CAIRNLOG_BANDWIDTH_BYTES_PER_SECOND")]
    pub(crate) bandwidth_bytes_per_second: Option<u64>,
    /// How long the network takes there and back, from which its buffers follow, 1 to 60000.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..=60_000),
          env = "CAIRNLOG_ROUND_TRIP_MS")]
    pub(crate) round_trip_ms: Option<u64>,
    /// Whether datagrams go to the kernel many at once. Some network cards get it wrong.
    #[arg(long, value_enum, env = "CAIRNLOG_GSO")]
    pub(crate) gso: Option<Switch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Coordination {
    /// A person, with `promote`
    Manual,
    /// The nodes, by majority; not built yet
    Quorum,
    /// A lease in etcd; not built yet
    Etcd,
}

/// A node and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    node: NodeId,
    addresses: Vec<String>,
}

impl ServeArgs {
    pub(crate) fn directory(&self) -> Result<&Path, Failure> {
        let missing = || refused("where is the log? --dir DIR is needed".to_owned());
        self.dir.as_deref().ok_or_else(missing)
    }

    /// All nodes, this one among them; empty when it is alone.
    pub(crate) fn members(&self) -> Result<BTreeMap<NodeId, Vec<String>>, Failure> {
        if self.peers.len() > MEMBERS_MAX {
            return Err(refused(format!("more than {MEMBERS_MAX} nodes")));
        }
        let mut members = BTreeMap::new();
        for peer in &self.peers {
            if members.insert(peer.node, peer.addresses.clone()).is_some() {
                let text = format!(
                    "--peer {} is there twice: addresses go into one, with commas",
                    peer.node
                );
                return Err(refused(text));
            }
        }
        if !members.is_empty() && !members.contains_key(&self.node_id) {
            let node = self.node_id;
            let text = format!(
                "--peer has no node {node}, this one: all nodes are given, itself included"
            );
            return Err(refused(text));
        }
        Ok(members)
    }

    /// Where to listen.
    pub(crate) fn listen(&self) -> &str {
        let own = self.peers.iter().find(|peer| peer.node == self.node_id);
        let first = own.and_then(|peer| peer.addresses.first());
        self.listen.as_deref().or(first.map(String::as_str)).unwrap_or(LISTEN)
    }
}

fn refused(text: String) -> Failure {
    Failure::new(Exit::Failed, text)
}

fn parse_node(text: &str) -> Result<NodeId, String> {
    let number = text.parse().ok().and_then(NodeId::new);
    number.ok_or_else(|| "the number of a node is a whole number from 1 on".to_owned())
}

fn parse_peer(text: &str) -> Result<Peer, String> {
    let form = || "a node and its addresses, like 2=10.0.0.2:7400,host:7400".to_owned();
    let (node, addresses) = text.split_once('=').ok_or_else(form)?;
    let node = parse_node(node)?;
    let addresses: Result<Vec<String>, String> = addresses.split(',').map(parse_address).collect();
    let addresses = addresses?;
    if addresses.len() > ADDRESSES_MAX {
        return Err(format!("more than {ADDRESSES_MAX} addresses"));
    }
    Ok(Peer { node, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::top::{Args, Command};
    use clap::Parser;

    fn serve(arguments: &[&str]) -> Result<Box<ServeArgs>, clap::Error> {
        let arguments = [&["cairnlog", "serve", "--dir", "x"], arguments].concat();
        match Args::try_parse_from(arguments)?.command {
            Command::Serve(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn alone_it_has_no_members() {
        let args = serve(&[]).unwrap();
        assert_eq!(args.members().unwrap(), BTreeMap::new());
        assert_eq!(args.listen(), "127.0.0.1:7400");
        assert_eq!(args.http, "127.0.0.1:7480");
        assert_eq!(args.coordination, Coordination::Manual);
        assert_eq!(serve(&["--listen", "[::1]:1"]).unwrap().listen(), "[::1]:1");
    }

    #[test]
    fn peers_have_addresses() {
        let peers = ["--peer", "1=a:1", "--peer", "2=b:1,c:2"];
        let args = serve(&[&peers[..], &["--node-id", "2"]].concat()).unwrap();
        let members = args.members().unwrap();
        let node = |number| NodeId::new(number).unwrap();
        assert_eq!(members[&node(1)], ["a:1"]);
        assert_eq!(members[&node(2)], ["b:1", "c:2"]);
        assert_eq!(args.listen(), "b:1");
        let args = serve(&[&peers[..], &["--listen", "0.0.0.0:7"]].concat()).unwrap();
        assert_eq!(args.listen(), "0.0.0.0:7");
        // As the environment gives them.
        assert_eq!(serve(&["--peer", "1=a:1 2=b:1,c:2"]).unwrap().members().unwrap(), members);
    }

    #[test]
    fn peers_are_checked() {
        for peer in ["1", "0=a:1", "x=a:1", "1=", "1=a", "1=a:1,", "1=:1", "-1=a:1"] {
            assert!(serve(&["--peer", peer]).is_err(), "{peer}");
        }
        let twice = serve(&["--peer", "1=a:1", "--peer", "1=b:1"]).unwrap().members();
        assert!(twice.unwrap_err().message.unwrap().contains("twice"));
        let without = serve(&["--peer", "2=a:1"]).unwrap().members();
        assert!(without.unwrap_err().message.unwrap().contains("no node 1"));
        for arguments in [["--node-id", "0"], ["--heartbeat-ms", "0"], ["--gso", "maybe"]] {
            assert!(serve(&arguments).is_err(), "{arguments:?}");
        }
    }
}
