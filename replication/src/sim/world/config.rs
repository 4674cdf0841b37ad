//! How the logs of simulated clusters are opened: small, so that a short run has many segments.

use cairnlog_engine::Config;

/// The log of the cluster.
const LOG_ID: u128 = 0xca1;

pub(super) fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.record_bytes_max = 20 << 10;
    config.batch_bytes_max = 4 << 10;
    config.inflight_bytes_max = 512 << 10;
    config.feed_bytes_max = 32 << 10;
    config.scrub_bytes_per_second = 0;
    config.fork_reserve_bytes = 0;
    (config.log_id, config.lineage_id) = (Some(LOG_ID), Some(LOG_ID));
    config
}
