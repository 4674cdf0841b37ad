//! Mutations of a log that is one of several replicas.

use super::Mutation;

pub(super) const REPLICATING: &[Mutation] = &[
    Mutation {
        what: "replica: a promise is answered before it is on disk",
        edits: &[(
            "replica.rs",
            "        changed.map_err(|failure| core.poisoned_by(failure))?;\n",
            "        let _ = changed;\n",
        )],
        test: "replica::a_promise_outlives_power",
    },
    Mutation {
        what: "replica: what another one knew to be durable is evidence here",
        edits: &[(
            "recovery/examine.rs",
            "if leads { batch.durable_lsn } else { Lsn::NONE }",
            "let _ = leads; batch.durable_lsn",
        )],
        test: "replica::a_follower_without_power",
    },
    Mutation {
        what: "replica: what a recycled file held stays behind the last batch",
        edits: &[(
            "log/maintenance.rs",
            "        self.zero_rest(&*file, extent.end_offset, header.data_end())?;\n",
            "        let _ = Core::zero_rest;\n",
        )],
        test: "replica::replicas_are_identical",
    },
    Mutation {
        what: "replica: a segment stays sealed where it is cut off at its end",
        edits: &[(
            "format/superblock.rs",
            "(trailer.segment, trailer.end_offset) >= (self.segment, self.offset)",
            "(trailer.segment, trailer.end_offset) > (self.segment, self.offset)",
        )],
        test: "replica::a_diverged_end",
    },
    Mutation {
        what: "replica: batches of an epoch that was not promised are appended",
        edits: &[("replica.rs", "if newest > core.epoch() {", "if false {")],
        test: "replica::only_what_was_promised",
    },
    Mutation {
        what: "replica: what is committed is given up",
        edits: &[(
            "log/truncate.rs",
            "if lsn < commit_lsn.min(end.lsn) {",
            "if false && lsn < commit_lsn {",
        )],
        test: "replica::what_is_committed",
    },
    Mutation {
        what: "replica: pieces are appended wherever they belong",
        edits: &[("wal/writer/raw.rs", "            chain.accept(header)?;\n", "")],
        test: "replica::what_does_not_continue",
    },
    Mutation {
        what: "replica: a place is known by its LSN alone",
        edits: &[(
            "replica/raw_reader.rs",
            "(last.end_lsn(), last.link()) == (at.lsn, at.link)",
            "last.end_lsn() == at.lsn",
        )],
        test: "replica::another_place",
    },
    Mutation {
        what: "replica: an epoch is begun by whoever asks",
        edits: &[(
            "replica.rs",
            "let is_own = (incarnation, nonce) == (start.incarnation, start.nonce);",
            "let is_own = (incarnation, nonce) == (incarnation, nonce);",
        )],
        test: "replica::promises_only_grow",
    },
    Mutation {
        what: "replica: segments have the length that this one would give them",
        edits: &[("wal/writer/raw.rs", "next.bytes == header.segment_bytes", "next.bytes > 0")],
        test: "replica::segments_are_as_long",
    },
];
