//! Limits of an open log.
//!
//! Owns the flags that become a [`Config`] of the engine.

use cairnlog_engine::Config;
use cairnlog_engine::disk::BackendChoice;
use clap::{Args as ClapArgs, ValueEnum};

use super::values::{Switch, parse_bytes};

/// Limits of an open log.
#[derive(Debug, ClapArgs)]
pub(crate) struct Limits {
    /// Length of new segment files, 64 KiB to 4 GiB; a record fits into one. [default: 64 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_SEGMENT_BYTES")]
    segment_bytes: Option<u64>,
    /// Drop the oldest segments while the log is larger. [default: keep everything]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_RETAIN_BYTES")]
    retain_bytes: Option<u64>,
    /// Drop segments whose last record is older. [default: keep everything]
    #[arg(long, value_name = "SECONDS", env = "CAIRNLOG_RETAIN_SECONDS")]
    retain_seconds: Option<u64>,
    /// Whether digest and parity (1/32 of the bytes) are written beside sealed segments.
    #[arg(long, value_enum, default_value_t = Switch::On, env = "CAIRNLOG_PARITY")]
    parity: Switch,
    #[command(flatten)]
    pub(crate) driver: Driver,
}

impl Limits {
    pub(crate) fn config(&self) -> Config {
        let mut config = config_for(self.segment_bytes);
        config.retain_bytes = self.retain_bytes;
        config.retain_seconds = self.retain_seconds;
        config.parity = self.parity.is_on();
        config.backend = self.driver.choice();
        config
    }
}

/// The default, with limits that fit the length of a segment.
pub(crate) fn config_for(segment_bytes: Option<u64>) -> Config {
    segment_bytes.map_or_else(Config::default, Config::with_segment_bytes)
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Driver {
    /// How writes are handed to the kernel.
    #[arg(long, value_enum, default_value_t = Backend::Auto, env = "CAIRNLOG_BACKEND")]
    pub(crate) backend: Backend,
}

impl Driver {
    pub(crate) fn choice(&self) -> BackendChoice {
        match self.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Uring => BackendChoice::Uring,
            Backend::Blocking => BackendChoice::Blocking,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// io_uring where the kernel gives it, else blocking; says so when it does not
    Auto,
    /// io_uring or nothing
    Uring,
    /// Blocking system calls
    Blocking,
}
