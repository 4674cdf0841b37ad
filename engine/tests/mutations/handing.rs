//! Mutations of the hand-over between those who append, wait and write; the model checker notices them.

use super::{INTERLEAVINGS, Mutation};

pub(super) const HANDING: &[Mutation] = &[
    Mutation {
        what: "who is asked to lead is not woken",
        edits: &[("wal/commit.rs", "self.state.wake_one();", "")],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a time-out takes the request to lead along",
        edits: &[(
            "wal/commit.rs",
            "return Wake::TimedOut;",
            "{ let _ = self.accept_lead(); return Wake::TimedOut; }",
        )],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a task is listed, and the end not looked at again",
        edits: &[(
            "wal/commit.rs",
            "self.ended().map_or(Poll::Pending, Poll::Ready)",
            "Poll::Pending",
        )],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "the tasks are taken before the end is there to be seen",
        edits: &[
            (
                "wal/commit.rs",
                "let before = self.state.swap(",
                "let tasks = std::mem::take(&mut *self.tasks()); let before = self.state.swap(",
            ),
            (
                "wal/commit.rs",
                "let tasks = std::mem::take(&mut *self.tasks());\n        for",
                "for",
            ),
        ],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a failure is stored after it can be seen",
        edits: &[
            ("wal/commit.rs", "let _ = self.failure.set(error);", "failure = Some(error);"),
            (
                "wal/commit.rs",
                "let state = match result {",
                "let mut failure = None; let state = match result {",
            ),
            (
                "wal/commit.rs",
                "self.state.wake_all();",
                "self.state.wake_all(); if let Some(error) = failure { let _ = self.failure.set(error); }",
            ),
        ],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a driver that leaves asks nobody to lead",
        edits: &[("log/committer.rs", "Some(leader) => leader.ask_to_lead(),", "Some(_) => {}")],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a driver that leaves does not wake the commit thread",
        edits: &[(
            "log/committer.rs",
            "None if pending => self.kick_commit_thread(),",
            "None if pending => {}",
        )],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "the commit thread says that it sleeps after it looked for work",
        edits: &[(
            "log/commit_thread.rs",
            "self.commit_sleeps.store(true, Ordering::SeqCst);\n            drop(state);",
            "drop(state);\n            self.commit_sleeps.store(true, Ordering::SeqCst);",
        )],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a batch ends before its end is published",
        edits: &[("log/committer.rs", "ended.add(commit, Ok(()));", "commit.finish(Ok(()));")],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "progress is looked at before the generation",
        edits: &[
            (
                "log/progress.rs",
                "let generation = self.generation.load(Ordering::SeqCst);\n            if let",
                "if let",
            ),
            (
                "log/progress.rs",
                "let left = deadline.map(",
                "let generation = self.generation.load(Ordering::SeqCst); let left = deadline.map(",
            ),
        ],
        test: INTERLEAVINGS,
    },
    Mutation {
        what: "a raised signal is not looked at under the lock",
        edits: &[(
            "log/core.rs",
            "drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));\n            self.changed",
            "self.changed",
        )],
        test: INTERLEAVINGS,
    },
];
