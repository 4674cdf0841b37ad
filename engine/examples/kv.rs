//! A small key-value store whose only storage is the log.
//!
//! Every change is one record, appended durably before it is applied to the map in memory; opening
//! replays the log. Nothing else is written anywhere, so whatever survives of the log survives of the
//! store.
//!
//! ```text
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv set color blue
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv get color
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv remove color
//! cargo run -p cairnlog-engine --example kv -- /tmp/kv list
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use cairnlog_engine::{Config, Log, RecoveryReport};

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

/// The store.
struct Store {
    log: Log,
    map: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store {
    /// Opens the log and replays it.
    fn open(directory: &Path) -> Result<(Store, RecoveryReport), Box<dyn Error>> {
        let (log, report) = Log::open(directory, Config::default())?;
        let mut map = BTreeMap::new();
        for record in log.iter(..)? {
            let record = record?;
            let change = Change::decode(record.bytes())
                .ok_or_else(|| format!("record {} is not a change of a store", record.lsn))?;
            apply(&mut map, change);
        }
        Ok((Store { log, map }, report))
    }

    /// Makes a change durable, then visible. An error leaves the map as it was.
    fn change(&mut self, change: Change) -> Result<(), Box<dyn Error>> {
        self.log.append(&change.encode()?)?;
        apply(&mut self.map, change);
        Ok(())
    }
}

fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: Change) {
    match change {
        Change::Set { key, value } => drop(map.insert(key, value)),
        Change::Remove { key } => drop(map.remove(&key)),
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, command @ ..] = &words[..] else {
        return Err("usage: kv DIR set KEY VALUE | get KEY | remove KEY | list".into());
    };
    let (mut store, report) = Store::open(Path::new(directory))?;
    eprintln!("{} keys; recovery: {}", store.map.len(), report.verdict);
    match command {
        ["set", key, value] => {
            store.change(Change::Set { key: (*key).into(), value: (*value).into() })?;
        }
        ["remove", key] => store.change(Change::Remove { key: (*key).into() })?,
        ["get", key] => match store.map.get(key.as_bytes()) {
            Some(value) => println!("{}", String::from_utf8_lossy(value)),
            None => return Ok(ExitCode::FAILURE),
        },
        ["list"] => {
            for (key, value) in &store.map {
                println!("{} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            }
        }
        _ => return Err("unknown command".into()),
    }
    store.log.close()?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("kv: {error}");
        ExitCode::from(2)
    })
}
