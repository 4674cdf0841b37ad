//! Mutations of truncation and of the cut that ends a torn tail.

use super::Mutation;

/// The power cuts, and what comes before and after.
const TRUNCATE: &str = "truncate";

pub(super) const TRUNCATING: &[Mutation] = &[
    Mutation {
        what: "a fork is not synced before it has its name",
        edits: &[(
            "fork.rs",
            "file.write_at(&block, 0)?;\n    file.sync()",
            "file.write_at(&block, 0)",
        )],
        test: "truncate::a_power_cut",
    },
    Mutation {
        what: "the cut is recorded before the fork is written",
        edits: &[
            (
                "log/truncate.rs",
                "let fork = self.write_fork(&maintenance, place, lsn..end_lsn)?;",
                "",
            ),
            (
                "log/truncate.rs",
                "self.hot.truncate(place.cut.lsn);",
                "let fork = self.write_fork(&maintenance, place, lsn..end_lsn)?; \
                 self.hot.truncate(place.cut.lsn);",
            ),
        ],
        test: "truncate::a_power_cut",
    },
    Mutation {
        what: "what a cut gave up is not zeroed",
        edits: &[("recovery/cut.rs", "        zero_behind(found)\n", "        Ok(())\n")],
        test: TRUNCATE,
    },
    Mutation {
        what: "segments behind a cut are not removed",
        edits: &[("recovery/cut.rs", "Name::Segment(number) => number > last,", "")],
        test: TRUNCATE,
    },
    Mutation {
        what: "parity of what was cut is not removed",
        edits: &[(
            "recovery/cut.rs",
            "Name::Parity(number) => number > last || (number == last && !is_sealed),",
            "",
        )],
        test: TRUNCATE,
    },
    Mutation {
        what: "checkpoints behind a cut are not removed",
        edits: &[("recovery/cut.rs", "Name::Checkpoint(Kind::State, lsn) => lsn > kept_lsn,", "")],
        test: TRUNCATE,
    },
    Mutation {
        what: "the watermark is not lowered at a cut",
        edits: &[(
            "recovery/cut.rs",
            "store.write(lowered, true).map_err(failed)?;",
            "let _ = (&mut store, lowered);",
        )],
        test: TRUNCATE,
    },
    Mutation {
        what: "the watermark is lowered before the tail is on the medium",
        edits: &[(
            "log/open.rs",
            "        sync_tail(found)?;
        renew_tail(disk, found)?;
        if was_pending {
            lower_watermark(disk, self.superblock.current(), found.end.lsn, self.commit_lsn)?;
        }
",
            "        if was_pending {
            lower_watermark(disk, self.superblock.current(), found.end.lsn, self.commit_lsn)?;
        }
        sync_tail(found)?;
        renew_tail(disk, found)?;
",
        )],
        test: "power_cut::an_unfinished_cut",
    },
    Mutation {
        what: "a footer behind a cut is believed",
        edits: &[(
            "recovery/examine.rs",
            "t.log_id == log_id && t.segment == number && !self.superblock.cut.voids_trailer(t)",
            "t.log_id == log_id && t.segment == number",
        )],
        test: TRUNCATE,
    },
    Mutation {
        what: "a cut is finished before its records are appended again",
        edits: &[(
            "log/open.rs",
            "if superblock.restore.end_lsn <= end_lsn {",
            "if end_lsn >= superblock.first_lsn {",
        )],
        test: TRUNCATE,
    },
    Mutation {
        what: "a reader behind a cut is not told",
        edits: &[("read/records.rs", "if next > lsn {", "if false {")],
        test: TRUNCATE,
    },
    Mutation {
        what: "a segment that was cut meanwhile is mended",
        edits: &[(
            "segments.rs",
            "self.get(segment.number()).is_some_and(|current| Arc::ptr_eq(&current, segment))",
            "self.get(segment.number()).is_some()",
        )],
        test: "truncate::a_scrub_that_is_overtaken",
    },
    Mutation {
        what: "appends go on while the log is truncated",
        edits: &[(
            "log/committer.rs",
            "    state.paused_by.is_some_and(|paused_by| paused_by",
            "    false && state.paused_by.is_some_and(|paused_by| paused_by",
        )],
        test: "truncate::appenders_wait",
    },
    Mutation {
        what: "a tail read through the cache is not written again",
        edits: &[(
            "log/open.rs",
            "        renew_tail(disk, found)?;\n",
            "        let _ = renew_tail;\n",
        )],
        test: "power_cut::what_only_the_cache_shows",
    },
];
