//! A file that says what no flag does.
//!
//! Owns how its keys are matched with flags: they are the same names with `_` for `-`, and their values are
//! read as those of the flags. It puts them in the place of the defaults, so that flag and environment are
//! stronger, and nothing else has to know of it.
//!
//! Invariants
//!  F1. What the file says is used or refused: no key is passed over.          test `a_file_is_checked`

use clap::builder::OsStr;
use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

/// Keys that would mean nothing in a file.
const NEVER: [&str; 3] = ["config", "help", "version"];

/// The command, with the values of the file as defaults of its subcommand `name`.
pub(super) fn as_defaults(command: Command, name: &str, text: &str) -> Result<Command, String> {
    let table: Table = text.parse().map_err(|error| describe(text, &error))?;
    let mut defaults = Vec::new();
    // Built, so that it has all that clap itself adds.
    let mut built = command.clone();
    built.build();
    let subcommand = built.find_subcommand(name).ok_or_else(|| format!("no command {name}"))?;
    for (key, value) in table {
        let arg = find(subcommand, &key).ok_or_else(|| format!("unknown key `{key}`"))?;
        defaults.push((arg.get_id().clone(), texts_of(arg, &key, value)?));
    }
    Ok(command.mut_subcommand(name, |mut subcommand| {
        for (id, texts) in defaults {
            subcommand = subcommand.mut_arg(id, |arg| arg.default_values(texts));
        }
        subcommand
    }))
}

fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let is_it = |arg: &&Arg| arg.get_long().is_some_and(|long| long.replace('-', "_") == key);
    command.get_arguments().find(is_it).filter(|_| !NEVER.contains(&key))
}

/// The values as they would stand on the command line.
fn texts_of(arg: &Arg, key: &str, value: Value) -> Result<Vec<OsStr>, String> {
    let values = match value {
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => values,
        Value::Array(_) => return Err(format!("`{key}` takes one value, not a list")),
        value => vec![value],
    };
    let text_of = |value| match value {
        Value::String(text) => Ok(OsStr::from(text)),
        Value::Integer(number) => Ok(OsStr::from(number.to_string())),
        Value::Boolean(is_on) => Ok(OsStr::from(if is_on { "on" } else { "off" })),
        _ => Err(format!("`{key}` takes a text, a whole number, or true and false")),
    };
    values.into_iter().map(text_of).collect()
}

/// On one line; the whole text would come with it else.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    let message = error.message().replace('\n', ", ");
    format!("line {line}: {message}")
}
