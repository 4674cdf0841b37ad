//! What is explored.
//!
//! Owns the trait between the explorer and the code under test. Knows nothing of cuts and outcomes.

use super::SimDisk;

/// A piece of work on a disk, and what must be true after the power went out during it.
///
/// A panic in any of its methods counts as a failure, so that assertions may be used freely.
pub trait Scenario: Sync {
    /// What the work was promised until the power went: which records were acknowledged, and what may
    /// be there beside them.
    type Evidence;

    /// Does the work on an empty disk, until it is done or the disk gives an error: without power every
    /// operation gives [`POWER_CUT`](super::POWER_CUT). The answer is what was promised up to then.
    ///
    /// Must be repeatable: the same seed does the same operations. Faults may be injected on the way.
    fn run(&self, disk: &SimDisk, seed: u64) -> Self::Evidence;

    /// Comes up after a power cut and goes down again, without work of its own: the explorer cuts the
    /// power during this too. The default does nothing, and then there is nothing to cut.
    fn recover(&self, disk: &SimDisk) {
        let _ = disk;
    }

    /// Looks at what a cut left, by whatever means: every promise in `evidence` must have been kept. It
    /// may also go on working on the disk, which is its own, and cut its power
    /// ([`SimDisk::restart_losing_all`]) to see whether new promises are kept.
    ///
    /// # Errors
    /// What promise was broken, for people.
    fn check(&self, disk: &SimDisk, evidence: &Self::Evidence) -> Result<(), String>;
}
