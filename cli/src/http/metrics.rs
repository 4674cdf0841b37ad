//! `/metrics`: which numbers there are.
//!
//! Owns their names, which dashboards and alerts rely on. Units: seconds, bytes, LSNs; yes and no are 1 and 0.
//!
//! Bounds: one sample for each follower and each role.

use cairnlog_replication::status::{FollowerStatus, Role, Status};

use super::exposition::{Page, Sample};

const ROLES: [Role; 5] =
    [Role::Leader, Role::Follower, Role::Learner, Role::Candidate, Role::Witness];

/// The page for a scraper.
pub(super) fn to_text(status: &Status) -> String {
    let mut page = Page::default();
    node(&mut page, status);
    log(&mut page, status);
    followers(&mut page, &status.followers);
    for (name, help, value) in &status.counters {
        page.single(name, help, Sample::Float(*value));
    }
    page.into_text()
}

fn node(page: &mut Page, status: &Status) {
    let version = [(env!("CARGO_PKG_VERSION").to_owned(), Sample::Whole(1))];
    page.labelled("build_info", "The version that runs, as a label.", "version", version);
    page.single("node_id", "The number of this node.", Sample::Whole(status.node_id));
    let is_role = |role: Role| (role.name().to_owned(), Sample::from(status.role == role));
    page.labelled("role", "1 for the role of this node.", "role", ROLES.map(is_role));
    let leader = Sample::Whole(status.leader.unwrap_or(0));
    page.single("leader_node_id", "The node that leads; 0 when none is known.", leader);
    for (name, help, is) in [
        ("live", "Whether the storage and the threads of this node work.", status.is_live),
        ("ready", "Whether this node can do its part for clients.", status.is_ready),
        ("forming", "Whether the cluster is not created yet.", status.is_forming),
        ("degraded", "Whether appends are acknowledged by fewer nodes.", status.degraded),
    ] {
        page.single(name, help, is.into());
    }
}

fn log(page: &mut Page, status: &Status) {
    for (name, help, value) in [
        ("epoch", "The epoch of this node.", status.epoch),
        ("first_lsn", "The oldest record kept.", status.first_lsn),
        ("commit_lsn", "Up to here, exclusive, a majority has it.", status.commit_lsn),
        ("durable_lsn", "Up to here, exclusive, it is durable on this node.", status.durable_lsn),
        ("end_lsn", "The next record gets this LSN.", status.end_lsn),
        ("log_bytes", "Bytes of the log on the disk of this node.", status.log_bytes),
    ] {
        page.single(name, help, Sample::Whole(value));
    }
}

/// Gauges of a leader, one sample for each follower.
fn followers(page: &mut Page, followers: &[FollowerStatus]) {
    if followers.is_empty() {
        return;
    }
    let mut each = |name: &str, help: &str, sample: fn(&FollowerStatus) -> Sample| {
        let samples = followers.iter().map(|one| (one.node_id.to_string(), sample(one)));
        page.labelled(name, help, "node", samples);
    };
    each("follower_durable_lsn", "Up to here, exclusive, it is durable on the follower.", |one| {
        Sample::Whole(one.durable_lsn)
    });
    each("follower_behind_bytes", "Bytes that the follower does not have yet.", |one| {
        Sample::Whole(one.behind_bytes)
    });
    each("follower_behind_seconds", "How long the follower has been behind.", |one| {
        // Exact up to 2^53 milliseconds.
        Sample::Float(one.behind_ms as f64 / 1000.0)
    });
    each("follower_in_service", "Whether the follower counts for `all`.", |one| {
        one.in_service.into()
    });
    each("follower_connected", "Whether there is a connection to the follower.", |one| {
        one.connected.into()
    });
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::http) fn leader() -> Status {
        let follower = |node_id, connected| FollowerStatus {
            node_id,
            durable_lsn: 90,
            behind_bytes: 4096,
            behind_ms: 1500,
            in_service: true,
            connected,
        };
        Status {
            node_id: 1,
            role: Role::Leader,
            leader: Some(1),
            epoch: 7,
            first_lsn: 1,
            durable_lsn: 101,
            commit_lsn: 91,
            end_lsn: 102,
            degraded: false,
            degraded_because: None,
            is_forming: false,
            is_live: true,
            is_ready: true,
            not_ready_because: None,
            log_bytes: 1 << 20,
            followers: vec![follower(2, true), follower(3, false)],
            counters: vec![("appends_total", "Appends that were acknowledged.", 12.0)],
        }
    }

    #[test]
    fn a_leader_has_numbers() {
        let text = to_text(&leader());
        for line in [
            "cairnlog_node_id 1",
            "cairnlog_role{role=\"leader\"} 1",
            "cairnlog_role{role=\"follower\"} 0",
            "cairnlog_ready 1",
            "cairnlog_degraded 0",
            "cairnlog_commit_lsn 91",
            "cairnlog_log_bytes 1048576",
            "cairnlog_follower_behind_seconds{node=\"2\"} 1.5",
            "cairnlog_follower_connected{node=\"3\"} 0",
            "# TYPE cairnlog_appends_total counter",
            "cairnlog_appends_total 12",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    /// Each line is a comment, or a sample of the family whose comments stand in front of it.
    #[test]
    fn the_page_has_the_form() {
        let text = to_text(&leader());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (word, name) = (words.next().unwrap(), words.next().unwrap());
                assert!(word == "HELP" || (word == "TYPE" && name == family), "{line}");
                name.clone_into(&mut family);
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), Some(&family[..]), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        let mut alone = leader();
        alone.followers.clear();
        assert!(!to_text(&alone).contains("follower_"));
    }
}
