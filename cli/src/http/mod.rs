//! What a server answers to HTTP: probes, its status, and metrics. All of it only looks.

mod exposition;
mod metrics;
mod router;

pub(crate) use router::serve;
