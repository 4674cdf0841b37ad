//! Answers of servers, for people.
//!
//! Owns how an object of JSON becomes lines: one for each key, and one for each entry of a list.

use std::fmt::Write;

use serde_json::{Map, Value};

/// What comes first, in this order.
const FIRST: [&str; 9] = [
    "node_id",
    "role",
    "leader",
    "epoch",
    "first_lsn",
    "commit_lsn",
    "durable_lsn",
    "end_lsn",
    "degraded",
];
const KEY_WIDTH: usize = 18;

/// One line for each fact.
pub(super) fn to_text(answer: &Value) -> String {
    let mut text = String::new();
    let Value::Object(facts) = answer else {
        return format!("{}\n", plain(answer));
    };
    for (key, value) in in_order(facts) {
        let lines: Vec<String> = match value {
            Value::Array(entries) => entries.iter().map(on_one_line).collect(),
            value => vec![on_one_line(value)],
        };
        for line in lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{key:KEY_WIDTH$} {line}");
        }
    }
    text
}

fn on_one_line(value: &Value) -> String {
    let Value::Object(facts) = value else { return plain(value) };
    let pairs = in_order(facts).map(|(key, value)| format!("{key} {}", plain(value)));
    pairs.collect::<Vec<_>>().join(", ")
}

fn in_order(facts: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let first = FIRST.iter().filter_map(|key| facts.get_key_value(*key));
    first.chain(facts.iter().filter(|(key, _)| !FIRST.contains(&key.as_str())))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace('\n', " "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_lines() {
        let answer = json!({
            "end_lsn": 5, "because": "a\nb", "role": "leader", "leader": null,
            "followers": [{"behind_bytes": 0, "node_id": 2}, {"behind_bytes": 7, "node_id": 3}],
        });
        let expected = "role               leader\n\
                        leader             -\n\
                        end_lsn            5\n\
                        because            a b\n\
                        followers          node_id 2, behind_bytes 0\n\
                        followers          node_id 3, behind_bytes 7\n";
        assert_eq!(to_text(&answer), expected);
    }
}
