//! Mutations of the way in: appends, segments, the superblock, and recovery.

use super::Mutation;

pub(super) const WRITING: &[Mutation] = &[
    Mutation {
        what: "the directory is not synced before a segment is used",
        edits: &[(
            "log/maintenance.rs",
            "self.disk.sync_directory().inspect_err(",
            "Ok::<(), io::Error>(()).inspect_err(",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a new segment is not synced before it has its name",
        edits: &[("log/maintenance.rs", "file.sync()?;", "")],
        test: "explorer",
    },
    Mutation {
        what: "a recycled file keeps its old header",
        edits: &[(
            "log/maintenance.rs",
            "file.write_durable_at(&Aligned::zeroed(HEADER_BLOCK_MAX), 0)?;",
            "let _ = HEADER_BLOCK_MAX;",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a file is dropped before the trim point is durable",
        edits: &[
            ("log/maintenance.rs", "superblock.first_lsn = first_lsn;", "let _ = &superblock;"),
            ("log/maintenance.rs", "superblock.first_segment = first_segment;", ""),
            (
                "log/maintenance.rs",
                "dropped.map_err(|error| IoFailure::new(\"drop\", &name, error))",
                "dropped.map_err(|error| IoFailure::new(\"drop\", &name, error))?; \
                 maintenance.superblock.change(|superblock| { superblock.first_lsn = first_lsn; \
                 superblock.first_segment = first_segment; })",
            ),
        ],
        test: "explorer",
    },
    Mutation {
        what: "a segment is sealed while it is written",
        edits: &[("log/maintenance.rs", "if number < unfinished {", "if number <= unfinished {")],
        test: "explorer",
    },
    Mutation {
        what: "the superblock is not synced",
        edits: &[(
            "superblock.rs",
            "self.file.write_durable_at(&copy,",
            "self.file.write_at(&copy,",
        )],
        test: "explorer",
    },
    Mutation {
        what: "only one copy of the superblock is written",
        edits: &[("superblock.rs", ".and_then(|()| self.write_copy(1))", "")],
        test: "explorer",
    },
    Mutation {
        what: "a new superblock is not synced before it has its name",
        edits: &[("superblock.rs", "file.sync()?;", "")],
        test: "explorer",
    },
    Mutation {
        what: "a batch is written and not made durable",
        edits: &[(
            "log/committer.rs",
            "write.file.write_durable_at(&write",
            "write.file.write_at(&write",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a ticket is acknowledged before its write completed",
        edits: &[
            (
                "log/commit_thread.rs",
                "if let Err(error) = submitted {",
                "self.complete(&mut state, Completion { id, result: Ok(()) }, ended);\
                 if let Err(error) = submitted {",
            ),
            (
                "wal/writer.rs",
                "assert!(self.poison.is_some(), \"a completion is for a write that was handed out\");",
                "",
            ),
        ],
        test: "explorer",
    },
    Mutation {
        what: "a write is acknowledged before those in front of it",
        edits: &[(
            "wal/writer.rs",
            "placed.completed = true;",
            "placed.completed = true; if result.is_ok() && let Some(commit) = placed.commit.take() \
             { commit.finish(Ok(())); }",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a batch gets blocks that another one has",
        edits: &[(
            "wal/writer/placing.rs",
            "segment.offset += to_u64(length);",
            "segment.offset += to_u64(length).max(1024) - 512;",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a batch says that itself is durable",
        edits: &[(
            "wal/writer.rs",
            "durable_lsn: self.durable_lsn,\n            commit_lsn",
            "durable_lsn: base_lsn,\n            commit_lsn",
        )],
        test: "explorer",
    },
    Mutation {
        what: "the checksum of a body is not looked at",
        edits: &[(
            "format/batch.rs",
            "checksum(&batch[HEADER_BYTES..]) == self.body_checksum",
            "self.length > 0",
        )],
        test: "explorer",
    },
    Mutation {
        what: "the checksum of a header is not looked at",
        edits: &[("format/batch.rs", "if stored != checksum(", "if false && stored != checksum(")],
        test: "lies",
    },
    Mutation {
        what: "the chain of checksums is not looked at",
        edits: &[(
            "wal/scan.rs",
            "self.checksum.is_some_and(|checksum| header.prev_checksum != checksum)",
            "false",
        )],
        test: "lies",
    },
    Mutation {
        what: "the identity of the log is not looked at",
        edits: &[("wal/scan.rs", "if header.log_id != self.log_id {", "if false {")],
        test: "lies",
    },
    Mutation {
        what: "what a file holds from before it was recycled is recognized",
        edits: &[("wal/scan.rs", "&& header.segment == self.segment", "")],
        test: "explorer",
    },
    Mutation {
        what: "an open does not sync the directory",
        edits: &[(
            "log/open.rs",
            "disk.sync_directory().map_err(",
            "Ok::<(), io::Error>(()).map_err(",
        )],
        test: "explorer",
    },
    Mutation {
        what: "the tail of an earlier process is not synced",
        edits: &[(
            "recovery/cut.rs",
            "if let Some(file) = segment.writer() {",
            "if let Some(file) = segment.writer().filter(|_| false) {",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a failed sync of the tail is tried again",
        edits: &[(
            "recovery/cut.rs",
            "file.sync().map_err(|error| IoFailure::new(\"sync\", &name, error))?;",
            "file.sync().or_else(|_| file.sync())\
             .map_err(|error| IoFailure::new(\"sync\", &name, error))?;",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a failed sync of the directory is tried again",
        edits: &[(
            "log/maintenance.rs",
            "self.disk.sync_directory().inspect_err(",
            "self.disk.sync_directory().or_else(|_| self.disk.sync_directory()).inspect_err(",
        )],
        test: "explorer",
    },
    Mutation {
        what: "what a cut leaves is not zeroed",
        edits: &[(
            "recovery/cut.rs",
            "file.write_at(&zeros, *offset).map_err(failed)?;",
            "let _ = (&zeros, offset, &failed as &dyn Fn(io::Error) -> IoFailure);",
        )],
        test: "explorer",
    },
    Mutation {
        what: "a cut is not recorded",
        edits: &[(
            "recovery/cut.rs",
            "superblock.change(|s| s.cut = Cut {",
            "superblock.change(|_| _ = Cut {",
        )],
        test: "truncate::the_cut_of_a_torn_tail",
    },
    Mutation {
        what: "a checkpoint is not synced before it has its name",
        edits: &[("checkpoint/files.rs", "file.sync()?;", "")],
        test: "explorer",
    },
    Mutation {
        what: "a checkpoint is answered before its name is durable",
        edits: &[(
            "checkpoint/files.rs",
            "disk.sync_directory().map_err(",
            "Ok::<(), io::Error>(()).map_err(",
        )],
        test: "explorer",
    },
    Mutation {
        what: "an open does not raise the epoch",
        edits: &[(
            "log/open.rs",
            "promised.max(found.end.epoch).next()",
            "promised.max(found.end.epoch).max(Epoch::new(1))",
        )],
        test: "explorer",
    },
    Mutation {
        what: "all damage is called a torn tail",
        edits: &[(
            "recovery.rs",
            "(false, true, false) | (true, true, _) => damaged(),",
            "(false, true, false) | (true, true, _) => \
             Verdict::TornTail { segment, offset, lsn, batches: 1 },",
        )],
        test: "lies",
    },
    Mutation {
        what: "durable records that are gone are not missed",
        edits: &[(
            "recovery.rs",
            "Verdict::LostDurable { range: lsn..facts.evidence_lsn, segment, offset }",
            "Verdict::Clean",
        )],
        test: "lies",
    },
    Mutation {
        what: "the error of a write is ignored",
        edits: &[(
            "wal/writer.rs",
            "if let Err(error) = result {",
            "if let Err(error) = result.or(Ok::<(), io::Error>(())) {",
        )],
        test: "io_faults",
    },
];
