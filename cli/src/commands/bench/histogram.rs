//! A histogram of latencies.
//!
//! Owns counts in buckets whose width grows with the value. Units: nanoseconds.
//!
//! Invariants
//!  H1. A percentile is at most 1/64 above the true one.                     test `error_is_small`
//!
//! Bounds: [`BUCKETS`] counts, whatever is recorded.

use std::time::Duration;

/// Each power of two is divided into so many buckets.
const STEPS: u64 = 64;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// Up to 2^41 ns, more than half an hour; what is longer counts as that.
const BUCKETS: usize = 36 * 64;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], count: 0, max_ns: 0 }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub(super) fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// At most this long took `per_mille` of 1000; 0 when nothing was recorded.
    pub(super) fn percentile_ns(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end_of(bucket).min(self.max_ns);
            }
        }
        0
    }
}

/// Below [`STEPS`] each value has its own bucket; above, the leading bits of the value name it.
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return index(ns);
    }
    let shift = ns.ilog2() - STEPS_LOG2;
    let bucket = (u64::from(shift) + 1) * STEPS + (ns >> shift) - STEPS;
    index(bucket).min(BUCKETS - 1)
}

fn upper_end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

fn index(bucket: u64) -> usize {
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_small() {
        let mut previous = 0;
        for ns in
            (0..2000).chain((11..41).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << (bit - 1)]))
        {
            let bucket = bucket_of(ns);
            let upper = upper_end_of(bucket);
            assert!(ns <= upper && upper - ns <= ns / STEPS, "{ns} in {bucket} up to {upper}");
            assert!(ns == 0 || bucket >= previous || ns.is_power_of_two(), "{ns}");
            previous = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile_ns(500), 0);
        for ns in 1..=1000 {
            histogram.record(Duration::from_nanos(ns));
        }
        let mut twice = histogram.clone();
        twice.add(&histogram);
        for histogram in [histogram, twice] {
            for (per_mille, expected) in [(500, 500), (990, 990), (999, 999), (1000, 1000)] {
                let found = histogram.percentile_ns(per_mille);
                assert!(found >= expected && found - expected <= expected / STEPS, "{found}");
            }
            assert_eq!(histogram.max_ns(), 1000);
        }
    }
}
