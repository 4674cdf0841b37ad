//! Latencies of appends, recorded without disturbing them.
//!
//! Owns the samples and the percentiles. Does not read clocks (`load`).
//!
//! Invariants
//!  L1. A recorder never holds more than `samples_max`: when it is full it forgets every other
//!      sample and from then on keeps every 2nd, 4th, 8th ... append, evenly over the run.
//!      test `a_full_recorder_thins_out_evenly`
//!  L2. A merge gives each recorder the weight of its appends, not of its samples.
//!      test `merge_weighs_by_appends`
//!
//! Units: nanoseconds, saturating at 4.29 s.

/// The latencies of one writer.
#[derive(Debug)]
pub struct Recorder {
    samples_ns: Vec<u32>,
    samples_max: usize,
    stride: usize,
    until_next: usize,
}

impl Recorder {
    /// An empty recorder; 0 samples means that nothing is recorded.
    #[must_use]
    pub fn new(samples_max: usize) -> Self {
        let samples_ns = Vec::with_capacity(samples_max);
        Self { samples_ns, samples_max, stride: 1, until_next: 1 }
    }

    /// Takes in one latency.
    pub fn record(&mut self, latency_ns: u128) {
        self.until_next -= 1;
        if self.until_next > 0 {
            return;
        }
        self.until_next = self.stride;
        if self.samples_max == 0 {
            return;
        }
        if self.samples_ns.len() == self.samples_max {
            self.thin(2);
        }
        self.samples_ns.push(u32::try_from(latency_ns).unwrap_or(u32::MAX));
    }

    fn thin(&mut self, factor: usize) {
        let mut position = 0;
        self.samples_ns.retain(|_| {
            position += 1;
            position % factor == 1
        });
        self.stride *= factor;
        self.until_next = self.stride;
    }
}

/// The latencies of all writers, sorted.
#[derive(Debug, Default)]
pub struct Latencies {
    sorted_ns: Vec<u32>,
}

impl Latencies {
    /// Brings the recorders of a run together.
    #[must_use]
    pub fn merge(mut recorders: Vec<Recorder>) -> Self {
        let stride_max = recorders.iter().map(|recorder| recorder.stride).max().unwrap_or(1);
        let mut sorted_ns = Vec::new();
        for recorder in &mut recorders {
            if recorder.stride < stride_max {
                recorder.thin(stride_max / recorder.stride);
            }
            sorted_ns.append(&mut recorder.samples_ns);
        }
        sorted_ns.sort_unstable();
        Self { sorted_ns }
    }

    /// The latency that `percent` of the appends did not exceed; `None` without samples.
    #[must_use]
    pub fn percentile_ns(&self, percent: usize) -> Option<u64> {
        assert!(percent <= 100, "a percentage");
        let last = self.sorted_ns.len().checked_sub(1)?;
        Some(u64::from(self.sorted_ns[last * percent / 100]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_set() {
        let mut recorder = Recorder::new(1000);
        (0..=100).rev().for_each(|latency_ns| recorder.record(latency_ns));
        let latencies = Latencies::merge(vec![recorder]);
        assert_eq!(latencies.percentile_ns(50), Some(50));
        assert_eq!(latencies.percentile_ns(99), Some(99));
        assert_eq!(Latencies::merge(Vec::new()).percentile_ns(50), None);
    }

    #[test]
    fn a_full_recorder_thins_out_evenly() {
        let mut recorder = Recorder::new(8);
        (0..64).for_each(|latency_ns| recorder.record(latency_ns));
        let gaps: Vec<u32> = recorder.samples_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(recorder.samples_ns.len() <= 8);
        assert!(gaps.iter().all(|&gap| gap == gaps[0]), "uneven: {:?}", recorder.samples_ns);
    }

    #[test]
    fn merge_weighs_by_appends() {
        let (mut thinned, mut whole) = (Recorder::new(8), Recorder::new(64));
        (0..32).for_each(|_| thinned.record(1));
        (0..32).for_each(|_| whole.record(2));
        let merged = Latencies::merge(vec![thinned, whole]).sorted_ns;
        let ones = merged.iter().filter(|&&sample_ns| sample_ns == 1).count();
        assert_eq!(ones * 2, merged.len());
    }

    #[test]
    fn no_samples_are_kept_when_none_are_wanted() {
        let mut recorder = Recorder::new(0);
        (0..10).for_each(|latency_ns| recorder.record(latency_ns));
        assert!(recorder.samples_ns.is_empty());
    }
}
