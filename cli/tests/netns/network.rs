//! A network of this test's own: a namespace for each node and each client, and one that joins them.
//!
//! Owns the namespaces, the links, and what goes wrong on them. The namespaces have no names: they live as
//! long as this process holds them, or a process runs in them, so that however a test ends nothing is left
//! and nothing can be in the way of the next. Every spot has one link, to the hub, which forwards packets
//! between them and is where they are dropped (nftables), so that nobody is told: a sender sees what it would
//! see on a wire. A slow link is a token bucket at both of its ends (tbf). There is no netem: many kernels
//! come without it.
//!
//! Bounds: [`HEALED`]. Rates are in bits per second, as `tc` has them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::replicas::{Cluster, Ground, NODES};

/// What a fault of the network stopped works again so long after it: a connection is given up after 1.5 s
/// of silence, called again after at most 1 s, and an attempt takes at most 2 s. The rest is for machines
/// that are busy.
pub(crate) const HEALED: Duration = Duration::from_secs(15);

/// Where a process may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Node(usize),
    Client,
    /// Another client, so that there is one on either side of a partition.
    Other,
}

impl Spot {
    pub(crate) const ALL: [Spot; 5] =
        [Spot::Node(1), Spot::Node(2), Spot::Node(3), Spot::Client, Spot::Other];

    fn number(self) -> usize {
        match self {
            Spot::Node(number) => number,
            Spot::Client => NODES + 1,
            Spot::Other => NODES + 2,
        }
    }

    fn address(self) -> String {
        format!("10.77.{}.2", self.number())
    }
}

/// Who leads when a test begins.
pub(crate) const LEADER: Spot = Spot::Node(1);

/// Where packets meet what goes wrong.
const CHAIN: &str = "add table ip faults\n\
    add chain ip faults forward { type filter hook forward priority 0; }\n";

/// What happens to packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// None arrives.
    Cut,
    /// So many in a hundred do not arrive.
    Lose(u32),
    /// A byte of so many in a hundred is another one.
    Damage(u32),
    /// Of so many in a hundred there are two.
    Double(u32),
    /// Those longer than so many bytes do not arrive, and nobody says so.
    Shorten(u32),
}

impl Fault {
    /// As `nft` says it; `counter` stands where the packets that meet it are counted.
    fn statement(self, to: Spot, counter: &str) -> String {
        let some = |percent: u32| format!("numgen random mod 100 < {percent} {counter}");
        match self {
            Fault::Cut => format!("{counter} drop"),
            Fault::Lose(percent) => format!("{} drop", some(percent)),
            // Behind the header of UDP and what a short QUIC packet does not encrypt.
            Fault::Damage(percent) => format!("{} @th,320,8 set 0x5a", some(percent)),
            Fault::Shorten(bytes) => format!("ip length > {bytes} {counter} drop"),
            Fault::Double(percent) => {
                format!("{} dup to {} device \"to{}\"", some(percent), to.address(), to.number())
            }
        }
    }
}

/// One of each kind.
const FAULTS: [Fault; 5] =
    [Fault::Cut, Fault::Lose(1), Fault::Damage(1), Fault::Double(1), Fault::Shorten(1)];

/// A fault in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) from: Spot,
    pub(crate) to: Spot,
    pub(crate) fault: Fault,
}

/// The same fault from each of these to each of those, and not back.
pub(crate) fn one_way(from: &[Spot], to: &[Spot], fault: Fault) -> Vec<Rule> {
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).map(|(from, to)| Rule { from, to, fault }).collect()
}

/// The same fault between each of these and each of those.
pub(crate) fn both_ways(some: &[Spot], others: &[Spot], fault: Fault) -> Vec<Rule> {
    let back = one_way(others, some, fault);
    one_way(some, others, fault).into_iter().chain(back).collect()
}

/// A network namespace.
struct Namespace(File);

impl Namespace {
    fn new() -> Result<Namespace, String> {
        let mut command = Command::new("unshare");
        // It says when it is there, and stays until it is told to go.
        command.args(["--net", "sh", "-c", "echo there; read -r line"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let opened = Namespace::of(&mut child);
        drop(child.stdin.take());
        let _ = child.wait();
        opened
    }

    fn of(child: &mut Child) -> Result<Namespace, String> {
        let mut said = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        if said.is_empty() {
            return Err("unshare --net is not allowed".to_owned());
        }
        Ok(Namespace(File::open(format!("/proc/{}/ns/net", child.id())).unwrap()))
    }

    /// As `ip` takes it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does this in the namespace, on a thread that what it starts takes after.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.0.as_fd(), kind).unwrap();
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn tell(&self, program: &[&str], script: &str) -> Result<Output, String> {
        self.run(|| tell(program, script))
    }
}

/// Runs a program with this input.
fn tell(program: &[&str], script: &str) -> Result<Output, String> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped());
    let name = program.join(" ");
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    // A program that fails may not have read it all: what it says tells more.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{name}: {}\n{script}", String::from_utf8_lossy(&output.stderr)))
}

/// See the module.
pub(crate) struct Network {
    hub: Namespace,
    spots: Vec<Namespace>,
}

impl Network {
    /// A network on which nothing goes wrong; why not, where there can be none.
    fn new() -> Result<Network, String> {
        for program in [&["ip", "-Version"][..], &["tc", "-Version"], &["nft", "--version"]] {
            tell(program, "")?;
        }
        let hub = Namespace::new()?;
        // Whether this kernel has all that is needed; from then on everything is expected to work.
        let probe = "link add to1 type veth peer name to4\n";
        hub.tell(&["ip", "-batch", "-"], probe)?;
        hub.tell(&["tc", "-batch", "-"], &slowness("to1", 1_000_000))?;
        hub.tell(&["nft", "-f", "-"], CHAIN)?;
        for fault in FAULTS {
            let rules = one_way(&[Spot::Client], &[Spot::Node(1)], fault);
            hub.tell(&["nft", "-f", "-"], &script(&rules))?;
        }
        hub.tell(&["nft", "-f", "-"], &script(&[]))?;
        hub.tell(&["ip", "-batch", "-"], "link del to1\n")?;

        let spots = Spot::ALL.iter().map(|_| Namespace::new().unwrap()).collect();
        let network = Network { hub, spots };
        network.hub.tell(&["sh"], "echo 1 > /proc/sys/net/ipv4/ip_forward").unwrap();
        for spot in Spot::ALL {
            network.join(spot);
        }
        Ok(network)
    }

    /// Lays the link of a spot.
    fn join(&self, spot: Spot) {
        let (number, namespace) = (spot.number(), self.namespace(spot));
        // One packet is one packet: else many go through the links as one, and are lost as one.
        let script = format!(
            "link add to{number} gso_max_segs 1 type veth peer name wire gso_max_segs 1 netns {}\n\
             address add 10.77.{number}.1/30 dev to{number}\n\
             link set to{number} up\n",
            namespace.path()
        );
        self.hub.tell(&["ip", "-batch", "-"], &script).unwrap();
        let script = format!(
            "link set lo up\n\
             address add {}/30 dev wire\n\
             link set wire up\n\
             route add default via 10.77.{number}.1\n",
            spot.address()
        );
        namespace.tell(&["ip", "-batch", "-"], &script).unwrap();
    }

    fn namespace(&self, spot: Spot) -> &Namespace {
        &self.spots[spot.number() - 1]
    }

    /// Does this at a spot.
    pub(crate) fn at<T: Send>(&self, spot: Spot, work: impl FnOnce() -> T + Send) -> T {
        self.namespace(spot).run(work)
    }

    /// From now on these faults, and no others.
    pub(crate) fn set(&self, rules: &[Rule]) {
        self.hub.tell(&["nft", "-f", "-"], &script(rules)).unwrap();
    }

    /// No fault any more; how many packets met one between the first leader and its followers. Every rule for
    /// these must have met some, except that only a leader has long ones to send.
    pub(crate) fn heal(&self) -> u64 {
        let listed = self.hub.tell(&["nft", "-j", "list", "chain", "ip", "faults", "forward"], "");
        let listed: Value = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
        self.set(&[]);
        let rules = listed["nftables"].as_array().unwrap().iter();
        let rules = rules.filter_map(|object| object["rule"]["expr"].as_array());
        let counters = rules.flat_map(|expressions| {
            expressions.iter().filter_map(|expression| expression["counter"]["packets"].as_u64())
        });
        let counts: Vec<u64> = counters.collect();
        assert!(counts.iter().all(|count| *count > 0), "a fault that nothing met: {counts:?}");
        counts.iter().sum()
    }

    /// The link of a spot carries so many bits a second, both ways.
    pub(crate) fn slow(&self, spot: Spot, bits_per_second: u64) {
        for (namespace, device) in self.ends(spot) {
            let script = slowness(&device, bits_per_second);
            namespace.tell(&["tc", "-batch", "-"], &script).unwrap();
        }
    }

    /// As fast as the machine again.
    pub(crate) fn hasten(&self, spot: Spot) {
        for (namespace, device) in self.ends(spot) {
            let script = format!("qdisc del dev {device} root\n");
            namespace.tell(&["tc", "-batch", "-"], &script).unwrap();
        }
    }

    fn ends(&self, spot: Spot) -> [(&Namespace, String); 2] {
        let far = (self.namespace(spot), "wire".to_owned());
        [(&self.hub, format!("to{}", spot.number())), far]
    }
}

/// Makes packets wait, up to 200 ms of them.
fn slowness(device: &str, bits_per_second: u64) -> String {
    let limit = bits_per_second / 8 / 5;
    format!(
        "qdisc replace dev {device} root tbf rate {bits_per_second}bit burst 16kb limit {limit}\n"
    )
}

fn is_node(spot: Spot) -> bool {
    matches!(spot, Spot::Node(_))
}

/// These faults instead of those before.
fn script(rules: &[Rule]) -> String {
    let mut script = "flush chain ip faults forward\n".to_owned();
    for Rule { from, to, fault } in rules {
        let (source, target) = (from.address(), to.address());
        // A leader and its followers talk all the time, others only when they have something to say.
        let is_busy = *from == LEADER || *to == LEADER && !matches!(fault, Fault::Shorten(_));
        let is_counted = is_busy && is_node(*from) && is_node(*to);
        let statement = fault.statement(*to, if is_counted { "counter" } else { "" });
        let rule = format!("ip saddr {source} ip daddr {target} {statement}");
        writeln!(script, "add rule ip faults forward {rule}").unwrap();
    }
    script
}

impl Ground for Network {
    fn addresses(&self) -> Vec<String> {
        (1..=NODES).map(|number| format!("{}:7400", Spot::Node(number).address())).collect()
    }

    fn at_node<T: Send>(&self, number: usize, work: impl FnOnce() -> T + Send) -> T {
        self.at(Spot::Node(number), work)
    }
}

/// Three nodes with a network between them, of which the first one leads; none, with a message, where there
/// can be no such network.
pub(crate) fn three_nodes(flags: &[&str]) -> Option<Cluster<Network>> {
    match Network::new() {
        Ok(network) => Some(Cluster::new(network, flags)),
        Err(reason) => {
            eprintln!("skipped: there are no network namespaces here: {reason}");
            None
        }
    }
}
