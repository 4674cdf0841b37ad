//! Mutations of what comes later: checkpoints, parity, the scrub, repair, and the deadline for a disk
//! that does not answer.

use super::Mutation;

pub(super) const KEEPING: &[Mutation] = &[
    Mutation {
        what: "parity: the checksum of a rebuilt unit is not looked at",
        edits: &[(
            "parity.rs",
            "if !self.checksums.data_is_whole(slab, unit, rebuilt) {",
            "if false && !self.checksums.data_is_whole(slab, unit, rebuilt) {",
        )],
        test: "parity::d6_what_is_rebuilt_wrong",
    },
    Mutation {
        what: "parity: the checksum of a parity unit is not looked at",
        edits: &[(
            "parity.rs",
            "filled == UNIT_BYTES && self.checksums.parity_is_whole(slab, unit, &unit_bytes);",
            "filled == UNIT_BYTES; let _ = UnitChecksums::parity_is_whole;",
        )],
        test: "parity::d6_damage_of_the_parity",
    },
    Mutation {
        what: "parity: the file is not synced before it has its name",
        edits: &[("parity.rs", "        self.file.sync()\n", "        Ok(())\n")],
        test: "parity::a_power_cut_while_a_segment_is_protected",
    },
    Mutation {
        what: "parity: the file has its name before it is finished",
        edits: &[
            (
                "parity.rs",
                "assert_eq!(self.slab, self.layout.slabs(), \"all of the segment was added\");",
                "self.disk.rename(&format!(\"{}{TEMPORARY_SUFFIX}\", self.name), &self.name)?;",
            ),
            (
                "parity.rs",
                "        self.disk.rename(&format!(\"{}{TEMPORARY_SUFFIX}\", self.name), &self.name)\n",
                "        Ok(())\n",
            ),
        ],
        test: "parity::a_power_cut_while_a_segment_is_protected",
    },
    Mutation {
        what: "parity: a slab's units get the place of another one's",
        edits: &[(
            "parity.rs",
            "self.file.write_at(&units, layout.parity_offset(slab, 0))?;",
            "self.file.write_at(&units, layout.parity_offset(0, 0))?;",
        )],
        test: "parity::a_real_log",
    },
    Mutation {
        what: "parity: a slab is read at the place of another one",
        edits: &[(
            "parity.rs",
            "let start = to_u64(slab * SLAB_BYTES);\n        let mut bytes",
            "let start = to_u64(slab.saturating_sub(1) * SLAB_BYTES);\n        let mut bytes",
        )],
        test: "parity::a_real_log",
    },
    Mutation {
        what: "parity: that of another log is trusted",
        edits: &[(
            "parity.rs",
            "if header.log_id != log_id {",
            "if header.log_id != log_id && false {",
        )],
        test: "parity::d16_",
    },
    Mutation {
        what: "parity: that of another segment is trusted",
        edits: &[
            (
                "parity.rs",
                "if header.segment != segment || header.segment_bytes != segment_bytes {",
                "if header.segment_bytes != segment_bytes {",
            ),
            ("parity.rs", "if its_lsns == lsns {", "if its_lsns == lsns || true {"),
        ],
        test: "parity::d16_",
    },
    Mutation {
        what: "parity: what an open finds of a dropped segment is kept",
        edits: &[(
            "log/open.rs",
            "                        _ => disk.remove(&entry.name).map_err(failed)?,",
            "                        _ => {}",
        )],
        test: "parity::parity_goes_with",
    },
    Mutation {
        what: "scrub: a mended segment is not read back",
        edits: &[(
            "scrub.rs",
            "match parity.mended_slab(&*file, slab)? {\n                Ok((_, 0)) => {}",
            "match Ok::<_, Fault>(((), 0)) {\n                Ok((_, 0)) => {}",
        )],
        test: "parity::d11_",
    },
    Mutation {
        what: "scrub: a mended segment is not synced before it has its name",
        edits: &[("scrub.rs", "        file.sync()?;\n", "")],
        test: "parity::a_power_cut_while_a_segment_is_mended",
    },
    Mutation {
        what: "scrub: a segment is mended in place",
        edits: &[
            (
                "scrub.rs",
                "let file = self.disk.create(temporary, bytes)?;",
                "let file = self.disk.open(&file_name(segment.number()), crate::disk::Access::Write)?; \
                 let _ = temporary;",
            ),
            ("scrub.rs", "        self.disk.rename(&temporary, &name)?;\n", ""),
        ],
        test: "parity::a_power_cut_while_a_segment_is_mended",
    },
    Mutation {
        what: "scrub: readers are not told of the new file",
        edits: &[("scrub.rs", "        segment.handle_replaced();\n", "")],
        test: "parity::readers_go_over",
    },
    Mutation {
        what: "scrub: parity is taken of batches that were not verified",
        edits: &[("read/assembler.rs", "match header.body_is_whole(batch) {", "match true {")],
        test: "parity::a_damaged_segment_gets_no_parity",
    },
    Mutation {
        what: "verify: the digest is not compared",
        edits: &[(
            "verify.rs",
            ".any(|known| known != digest)",
            ".any(|known| known != digest && false)",
        )],
        test: "parity::d12_",
    },
    Mutation {
        what: "scrub: what cannot be mended is not noted",
        edits: &[(
            "scrub.rs",
            "self.scrub.lock().insert(segment.number(), corruption);",
            "let _ = corruption;",
        )],
        test: "parity::d6_as_much",
    },
    Mutation {
        what: "scrub: damaged parity is left as it is",
        edits: &[("scrub.rs", "if !parity.is_whole() {", "if !parity.is_whole() && false {")],
        test: "parity::d6_damage_of_the_parity",
    },
    Mutation {
        what: "scrub: the digest is not compared",
        edits: &[(
            "scrub.rs",
            "Ok(digest) if digest == parity.digest() => None,",
            "Ok(_) if true => None,",
        )],
        test: "parity::d12_",
    },
    Mutation {
        what: "scrub: two threads scrub at once",
        edits: &[
            (
                "scrub.rs",
                "let turn = self.lock_in_time(&self.scrub.turn, &self.scrub.answered_ms);",
                "",
            ),
            ("scrub.rs", "let Ok(_turn) = turn else { return };", "let _ = &self.scrub.turn;"),
        ],
        test: "parity::a_power_cut_while_two_scrub",
    },
    Mutation {
        what: "repair: it acts without being told to",
        edits: &[(
            "repair.rs",
            "    if confirmed {\n        report.kept",
            "    {\n        report.kept",
        )],
        test: "repair::what_is_replaced_is_kept",
    },
    Mutation {
        what: "repair: nothing is kept of what is replaced",
        edits: &[("repair/rebuild.rs", "    keep(disk, &name, kept)?;\n", "")],
        test: "repair::what_is_replaced_is_kept",
    },
    Mutation {
        what: "repair: the copy of what is replaced is not synced",
        edits: &[("repair/rebuild.rs", "    copy.sync()?;\n", "")],
        test: "repair::a_power_cut_during_a_repair",
    },
    Mutation {
        what: "repair: the name of the copy is not durable before the original goes",
        edits: &[(
            "repair/rebuild.rs",
            "    disk.rename(&temporary, &copied)?;\n    disk.sync_directory()?;\n",
            "    disk.rename(&temporary, &copied)?;\n",
        )],
        test: "repair::a_power_cut_during_a_repair_from_parity",
    },
    Mutation {
        what: "repair: a new segment is not synced before it has its name",
        edits: &[("repair/rebuild.rs", "    file.sync()?;\n    check(", "    check(")],
        test: "repair::a_power_cut_during_a_repair",
    },
    Mutation {
        what: "repair: a new segment is not read back",
        edits: &[(
            "repair/rebuild.rs",
            "    check(plan, segment, &file)?;\n",
            "    let _ = check;\n",
        )],
        test: "repair::d11_",
    },
    Mutation {
        what: "repair: it is answered before its names are durable",
        edits: &[
            (
                "repair/rebuild.rs",
                "    disk.rename(&temporary, &name)?;\n    disk.sync_directory()\n",
                "    disk.rename(&temporary, &name)\n",
            ),
            (
                "repair/rebuild.rs",
                "    disk.sync_directory().map_err(|error| IoFailure::new(\"sync\", &disk.describe(), \
                 error))?;\n",
                "",
            ),
        ],
        test: "repair::a_power_cut_during_a_repair",
    },
    Mutation {
        what: "repair: LSNs of lost records are given to others",
        edits: &[
            (
                "repair/survey.rs",
                "if self.evidence_lsn > end_lsn {",
                "if self.evidence_lsn > end_lsn && false {",
            ),
            (
                "repair/survey.rs",
                "if lost_lsn > walk.chain.lsn {",
                "if lost_lsn > walk.chain.lsn && false {",
            ),
        ],
        test: "repair::d13_",
    },
    Mutation {
        what: "repair: the parity of what a segment was is kept",
        edits: &[(
            "repair/rebuild.rs",
            "remove_if_there(disk, &parity::file_name(segment.header.segment))?;",
            "let _ = parity::file_name;",
        )],
        test: "repair::what_a_segment_was",
    },
    Mutation {
        what: "repair: the table of what a segment was is kept",
        edits: &[(
            "repair/rebuild.rs",
            "remove_if_there(disk, &crate::format::checkpoint::file_name(Kind::Segments, lsn))?;",
            "let _ = lsn;",
        )],
        test: "repair::what_a_segment_was",
    },
    Mutation {
        what: "repair: damaged checkpoints stay",
        edits: &[(
            "repair/rebuild.rs",
            "for name in &plan.damaged_checkpoints {",
            "for name in plan.damaged_checkpoints.iter().filter(|_| false) {",
        )],
        test: "repair::d8_",
    },
    Mutation {
        what: "repair: the epochs of checkpoints are forgotten",
        edits: &[("repair/rebuild.rs", "epoch = epoch.max(found.epoch());", "let _ = found;")],
        test: "repair::d9_an_epoch",
    },
    Mutation {
        what: "checkpoints: the newest ones are removed",
        edits: &[(
            "checkpoint/files.rs",
            "let mut lsns = list(disk, kind)?;",
            "let mut lsns = list(disk, kind)?; lsns.reverse();",
        )],
        test: "checkpoints::trim_stops",
    },
    Mutation {
        what: "checkpoints: one is taken of records that may be lost",
        edits: &[(
            "checkpoint/take.rs",
            "if lsn > durable_lsn || lsn < Lsn::FIRST {",
            "if lsn > self.lock_state().writer.end_lsn() || lsn < Lsn::FIRST {",
        )],
        test: "checkpoints::what_is_refused",
    },
    Mutation {
        what: "checkpoints: an older one takes the place of a newer one",
        edits: &[(
            "checkpoint/take.rs",
            "Some(newest_lsn) if lsn < *newest_lsn => {",
            "Some(newest_lsn) if lsn < *newest_lsn && false => {",
        )],
        test: "checkpoints::what_is_refused",
    },
    Mutation {
        what: "checkpoints: a trim goes past the oldest one",
        edits: &[(
            "log/maintenance.rs",
            "        let lsn = lsn.min(maintenance.trim_limit());\n",
            "",
        )],
        test: "checkpoints::trim_stops",
    },
    Mutation {
        what: "checkpoints: a trim goes up to the newest one",
        edits: &[("checkpoint/take.rs", "self.checkpoints.last()", "self.checkpoints.first()")],
        test: "checkpoints::trim_stops",
    },
    Mutation {
        what: "checkpoints: retention goes past the oldest one",
        edits: &[(
            "log/maintenance.rs",
            "let needed = segment.extent().end_lsn > maintenance.trim_limit();",
            "let needed = false;",
        )],
        test: "checkpoints::retention_stops",
    },
    Mutation {
        what: "checkpoints: a damaged one is handed out",
        edits: &[(
            "checkpoint/files.rs",
            "Ok(mut reader) => Ok(reader.check()?.map(|()| reader)),",
            "Ok(reader) => Ok(Ok(reader)),",
        )],
        test: "checkpoints::a_damaged_newest",
    },
    Mutation {
        what: "checkpoints: they are no evidence",
        edits: &[(
            "checkpoint/files.rs",
            "table.evidence_lsn = table.evidence_lsn.max(lsn);",
            "let _ = lsn;",
        )],
        test: "checkpoints::a_checkpoint_is_evidence",
    },
    Mutation {
        what: "checkpoints: a listed segment is not missed",
        edits: &[(
            "recovery/examine.rs",
            "let is_there = self.files.get(&header.segment) == Some(&header.segment_bytes);",
            "let is_there = true;",
        )],
        test: "checkpoints::a_listed_segment",
    },
    Mutation {
        what: "watermark: it is never made durable",
        edits: &[(
            "log/maintenance.rs",
            "maintenance.watermark.write(watermark, !moved);",
            "maintenance.watermark.write(watermark, false);",
        )],
        test: "lies::a_lost_write_is_noticed",
    },
    Mutation {
        what: "superblock: the older copy serves",
        edits: &[(
            "superblock.rs",
            ".max_by_key(|copy| copy.sequence)",
            ".min_by_key(|copy| copy.sequence)",
        )],
        test: "lies::a_lost_write_of_a_superblock_copy",
    },
    Mutation {
        what: "superblock: a damaged copy is not mended before the other one is written",
        edits: &[(
            "log/open.rs",
            "        self.superblock.mend()?;\n",
            "        let _ = SuperblockStore::mend;\n",
        )],
        test: "damage::a_power_cut_while_a_superblock",
    },
    Mutation {
        what: "deadline: the answers of the disk are not noted",
        edits: &[(
            "log/core.rs",
            "self.answered_ms.store(self.disk.elapsed_ms(), Ordering::Relaxed);",
            "let _ = self.disk.elapsed_ms();",
        )],
        test: "regression::an_idle_log_is_not_stalled",
    },
    Mutation {
        what: "deadline: it never comes",
        edits: &[(
            "log/core.rs",
            "if is_waiting && silent_ms > deadline_ms {",
            "if is_waiting && silent_ms > deadline_ms && false {",
        )],
        test: "io_faults::d19_each_operation_hangs",
    },
    Mutation {
        what: "deadline: not for those behind the background work",
        edits: &[(
            "log/core.rs",
            "            self.check_silence(asked_ms.max(answered_ms.load(Ordering::Relaxed)))?;\n",
            "            let _ = (asked_ms, answered_ms);\n",
        )],
        test: "io_faults::d19_each_operation_hangs",
    },
    Mutation {
        what: "deadline: not for whoever closes the log",
        edits: &[(
            "log.rs",
            "self.core.check_silence(asked_ms.max(maintained_ms))?;",
            "let _ = (asked_ms, maintained_ms);",
        )],
        test: "io_faults::d19_a_log_whose_background",
    },
    Mutation {
        what: "who waits for a durable batch hears of it after the next segment",
        edits: &[(
            "log/committer.rs",
            "        ended.finish();\n        self.note_answer();\n        let prepared",
            "        self.note_answer();\n        let prepared",
        )],
        test: "io_faults::a_durable_record",
    },
];
