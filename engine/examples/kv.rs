//! A small key-value store whose only storage is the log.
//!
//! Every change is one record, appended durably before it is applied to the map in memory. Now and then
//! the whole map is saved as a checkpoint, so that opening restores the newest one and replays only the
//! records after it; a damaged checkpoint falls back to the one before. Nothing else is written
//! anywhere, so whatever survives of the log survives of the store.
//!
//! ```text
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv set color blue
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv get color
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv remove color
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv list
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv fill 100000      # many keys
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv checkpoint      # the next open is short
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use cairnlog_engine::{CheckpointPolicy, Config, RecordRef, StateLog, StateMachine};

const SET: u8 = 1;
const REMOVE: u8 = 2;

/// One change, as it stands in the log: a tag, the length of the key (4 bytes), key, value.
enum Change {
    Set { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
}

impl Change {
    fn encode(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let (tag, key, value) = match self {
            Change::Set { key, value } => (SET, key, &value[..]),
            Change::Remove { key } => (REMOVE, key, &[][..]),
        };
        let mut record = vec![tag];
        record.extend_from_slice(&u32::try_from(key.len())?.to_le_bytes());
        record.extend_from_slice(key);
        record.extend_from_slice(value);
        Ok(record)
    }

    fn decode(record: &[u8]) -> Option<Change> {
        let (tag, rest) = record.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
        let key = key.to_vec();
        match *tag {
            SET => Some(Change::Set { key, value: value.to_vec() }),
            REMOVE if value.is_empty() => Some(Change::Remove { key }),
            _ => None,
        }
    }
}

/// The map that the records make.
#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateMachine for Map {
    fn apply(&mut self, record: &RecordRef<'_>) -> io::Result<()> {
        match Change::decode(record.bytes()) {
            Some(Change::Set { key, value }) => drop(self.0.insert(key, value)),
            Some(Change::Remove { key }) => drop(self.0.remove(&key)),
            None => return Err(invalid("not a change of a store")),
        }
        Ok(())
    }

    /// Keys and values, each behind its length (4 bytes).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        for bytes in self.0.iter().flat_map(|(key, value)| [key, value]) {
            let length = u32::try_from(bytes.len()).map_err(|_| invalid("a value above 4 GiB"))?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(bytes)?;
        }
        Ok(())
    }

    fn restore(&mut self, input: &mut dyn Read) -> io::Result<()> {
        self.0.clear();
        while let Some(key) = read_bytes(input)? {
            let value = read_bytes(input)?.ok_or_else(|| invalid("a key without a value"))?;
            self.0.insert(key, value);
        }
        Ok(())
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Bytes behind their length; `None` at the end.
fn read_bytes(input: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    // Not allocated by what a length says, but as far as there are bytes.
    let mut bytes = Vec::new();
    let length = u64::from(u32::from_le_bytes(length));
    if input.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(invalid("the state ends too early"));
    }
    Ok(Some(bytes))
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, command @ ..] = &words[..] else {
        let usage = "set KEY VALUE | get KEY | remove KEY | list | fill N | checkpoint";
        return Err(format!("usage: kv DIR {usage}").into());
    };
    let policy = CheckpointPolicy { every_bytes: Some(16 << 20), ..CheckpointPolicy::default() };
    let (store, report) =
        StateLog::open(Path::new(directory), Config::default(), policy, Map::default())?;
    let keys = store.read(|map| map.0.len());
    match report.checkpoint_lsn {
        Some(lsn) => eprint!("{keys} keys: checkpoint at {lsn}"),
        None => eprint!("{keys} keys: no checkpoint"),
    }
    eprintln!(", {} records replayed; {}", report.records_replayed, report.recovery.verdict);
    match command {
        ["set", key, value] => {
            let change = Change::Set { key: (*key).into(), value: (*value).into() };
            store.append(&change.encode()?)?;
        }
        ["remove", key] => {
            store.append(&Change::Remove { key: (*key).into() }.encode()?)?;
        }
        ["get", key] => match store.read(|map| map.0.get(key.as_bytes()).cloned()) {
            Some(value) => println!("{}", String::from_utf8_lossy(&value)),
            None => return Ok(ExitCode::FAILURE),
        },
        ["list"] => store.read(|map| {
            for (key, value) in &map.0 {
                println!("{} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            }
        }),
        ["fill", count] => fill(&store, count.parse()?)?,
        ["checkpoint"] => println!("checkpoint at LSN {}", store.checkpoint()?),
        _ => return Err("unknown command".into()),
    }
    store.close()?;
    Ok(ExitCode::SUCCESS)
}

/// Sets many keys, a thousand at a time.
fn fill(store: &StateLog<Map>, count: u32) -> Result<(), Box<dyn Error>> {
    for start in (0..count).step_by(1000) {
        let change = |number: u32| {
            let (key, value) = (format!("key{number}"), format!("value{number}"));
            Change::Set { key: key.into(), value: value.into() }.encode()
        };
        let changes: Result<Vec<_>, _> = (start..count.min(start + 1000)).map(change).collect();
        store.append_batch(&changes?)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("kv: {error}");
        ExitCode::from(2)
    })
}
