//! Mutations of what is durable before something is said.

use super::{CLUSTERS, Mutation};

pub(super) const KEEPING: &[Mutation] = &[
    Mutation {
        what: "an ack is sent before the piece is durable",
        edits: &[
            (
                "protocol/following.rs",
                "            self.act(Action::Append { bytes });\n",
                "            self.act(Action::Append { bytes });\n            self.send(from, Message::Ack { stream, durable: end });\n",
            ),
            (
                "protocol/node.rs",
                "            self.send(to, Message::Ack { stream, durable: acked });\n",
                "            let _ = (to, stream);\n",
            ),
        ],
        test: CLUSTERS,
    },
    Mutation {
        what: "what was appended is called durable when it is written",
        edits: &[(
            "driver/storage.rs",
            "match self.replica.append_raw(&bytes) {\n                Ok(()) => Ok(Done::Durable(self.replica.durable_place())),",
            "match self.replica.submit_raw(&bytes) {\n                Ok(_) => Ok(Done::Durable(self.replica.end_place())),",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "a replica says that it has what it has not synced",
        edits: &[(
            "driver/storage.rs",
            "        let end = self.replica.durable_place();\n",
            "        let end = self.replica.end_place();\n",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "a promise is answered before it is durable",
        edits: &[(
            "protocol/node.rs",
            "            self.start_promise(promise, Why::Asked(from, heard));\n",
            "            self.start_promise(promise, Why::Asked(from, heard));\n            self.send(from, Message::Sealed { promised: promise, summary: mine.clone(), heard });\n",
        )],
        test: "unit::a_promise_is_answered_when",
    },
    Mutation {
        what: "a promise is answered from memory when it is asked for again",
        edits: &[(
            "protocol/node.rs",
            "        if promise == self.promised {\n",
            "        if promise == stands {\n",
        )],
        test: "unit::a_promise_is_answered_when",
    },
    Mutation {
        what: "a promise is not written",
        edits: &[(
            "driver/storage.rs",
            "Operation::Promise(promise) => match self.promise(promise) {",
            "Operation::Promise(promise) => match if promise.leader.incarnation == self.replica.identity().incarnation { self.replica.promise(promise) } else { self.replica.follow(); self.replica.log().sync()?; Ok(()) } {",
        )],
        test: CLUSTERS,
    },
    Mutation {
        what: "a replica is ready before its cut is done",
        edits: &[(
            "protocol/following.rs",
            "        self.inbound = Some(Inbound::new((from, stream), promised, at, number));\n",
            "        let mut inbound = Inbound::new((from, stream), promised, at, number);\n        inbound.handle_cut();\n        self.inbound = Some(inbound);\n        self.send(from, Message::Ready { stream });\n",
        )],
        test: "unit::a_replica_is_ready_when",
    },
    Mutation {
        what: "a replica is ready though its cut was refused",
        edits: &[(
            "driver/storage.rs",
            "Err(_) => Ok(Done::Cut(number, false)),",
            "Err(_) => Ok(Done::Cut(number, true)),",
        )],
        test: "unit::what_is_committed_is_not_cut",
    },
];
