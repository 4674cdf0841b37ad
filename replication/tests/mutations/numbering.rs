//! Mutations of what is known of producers.

use super::Mutation;

pub(super) const NUMBERING: &[Mutation] = &[
    Mutation {
        what: "records behind a gap are new",
        edits: &[(
            "producers/table.rs",
            "if is_next { Verdict::New } else { Verdict::Gap(self.next_sequence) }",
            "if is_next || true { Verdict::New } else { Verdict::Gap(self.next_sequence) }",
        )],
        test: "unit::it_is_what_the_log_says",
    },
    Mutation {
        what: "a duplicate is said to go on where others are",
        edits: &[(
            "producers/table.rs",
            "if remembered.stretches.is_empty() || remembered.end_lsn != lsns.start {",
            "if remembered.stretches.is_empty() {",
        )],
        test: "unit::it_is_what_the_log_says",
    },
    Mutation {
        what: "what was appended twice is found where it was first",
        edits: &[(
            "producers/table.rs",
            "            self.stretches -= remembered.stretches.len();\n            remembered.stretches.clear();\n",
            "",
        )],
        test: "unit::it_is_what_the_log_says",
    },
    Mutation {
        what: "an unknown producer may go on anywhere",
        edits: &[(
            "producers/table.rs",
            "            None => Verdict::Unknown,\n",
            "            None => Verdict::New,\n",
        )],
        test: "unit::it_is_what_the_log_says",
    },
    Mutation {
        what: "whoever was appended to last is forgotten",
        edits: &[("producers/table.rs", "self.by_age.pop_first()", "self.by_age.pop_last()")],
        test: "unit::the_least_recent_is_forgotten",
    },
    Mutation {
        what: "one stretch less is remembered than appends may be in flight",
        edits: &[(
            "producers/table.rs",
            "if remembered.stretches.len() > self.limits.stretches_each {",
            "if remembered.stretches.len() >= self.limits.stretches_each {",
        )],
        test: "unit::a_window_is_remembered",
    },
    Mutation {
        what: "stretches of a checkpoint may overlap",
        edits: &[(
            "producers/codec.rs",
            "if records == 0 || lsns(before, next)? <= records {",
            "if records == 0 {",
        )],
        test: "unit::any_bytes",
    },
    Mutation {
        what: "what the log refused stays in the table",
        edits: &[("producers/admission.rs", "            if is_durable {\n", "            {\n")],
        test: "unit::each_record_once",
    },
    Mutation {
        what: "what comes behind an append on its way is taken for a gap",
        edits: &[(
            "producers/admission.rs",
            "        ahead.next_sequence = run.first_sequence.saturating_add(count);\n",
            "        let _ = count;\n",
        )],
        test: "unit::what_is_not_durable_is_no_duplicate",
    },
    Mutation {
        what: "what is not durable yet is called missing",
        edits: &[(
            "producers/admission.rs",
            "            _ => None,\n",
            "            other => Some(other),\n",
        )],
        test: "unit::what_is_not_durable_is_no_duplicate",
    },
];
