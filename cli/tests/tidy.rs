//! The house rules that no compiler checks: every file opens with what it owns, files stay short, and
//! imports point downward only. Function length, `unsafe` and `unwrap` are clippy's (root manifest).

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file that is not a test.
const FILE_LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 900;

/// Folders of the engine, lowest first: a file imports from its own and from those before it.
const LAYERS: [&[&str]; 3] = [&["format", "lsn", "epoch"], &["disk"], &["wal"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry of the tree").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "fixtures" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for package in ["engine", "replication", "cli", "fuzz", "benches"] {
        sources(&root().join(package), &mut found);
    }
    assert!(found.len() > 50, "the tree was found");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        (name, fs::read_to_string(&path).expect("a source file"))
    };
    found.into_iter().map(read).collect()
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("tests.rs")
}

#[test]
fn every_file_says_what_it_owns() {
    for (name, text) in all() {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let opens = first.starts_with("//!") || first.starts_with("#![doc");
        assert!(opens, "{name} does not open with a module comment");
    }
}

#[test]
fn files_stay_short() {
    for (name, text) in all() {
        let inline_tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let (lines, lines_max) = if is_test(&name) {
            (text.lines().count(), TEST_LINES_MAX)
        } else {
            (text[..inline_tests].lines().count(), FILE_LINES_MAX)
        };
        assert!(lines <= lines_max, "{name} has {lines} lines, more than {lines_max}");
    }
}

#[test]
fn imports_point_downward() {
    let above: Vec<(&str, Vec<&str>)> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(level, folders)| {
            let higher: Vec<&str> = LAYERS[level + 1..].concat();
            folders.iter().map(move |folder| (*folder, higher.clone()))
        })
        .collect();
    for (name, text) in all().into_iter().filter(|(name, _)| !is_test(name)) {
        for (folder, higher) in &above {
            if !name.starts_with(&format!("engine/src/{folder}")) {
                continue;
            }
            let imports = text.lines().filter(|line| line.trim_start().starts_with("use crate::"));
            for line in imports {
                let up = higher.iter().find(|h| line.contains(&format!("crate::{h}")));
                assert!(up.is_none(), "{name} imports from above: {line}");
            }
        }
    }
}

#[test]
fn only_the_disk_folder_is_unsafe() {
    for (name, text) in all() {
        let allows = text.contains("allow(unsafe_code)") && !name.ends_with("tidy.rs");
        assert!(!allows || name.starts_with("engine/src/disk/"), "{name} allows unsafe code");
    }
}

/// Rows of the table of faults: each test that it names is there, and names the row.
#[test]
fn faults_have_their_tests() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a page of the tree");
    let mut rows = 0;
    for line in readme.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, row, _, _, tests, _] = cells[..] else { continue };
        let is_row =
            row.starts_with(['C', 'D', 'I', 'K', 'N', 'S']) && row[1..].parse::<u32>().is_ok();
        if !is_row {
            continue;
        }
        rows += 1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(named.len() >= 2 && named.len().is_multiple_of(2), "{row} has no test");
        for pair in named.chunks(2) {
            let (path, test) = (pair[0], pair[1]);
            let text = fs::read_to_string(root().join(path)).expect("a file of the tree");
            assert!(text.contains(&format!("fn {test}(")), "{row}: {path} has no {test}");
            let says = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()) == row;
            let in_name = test.split('_').any(|part| part == row.to_lowercase());
            assert!(in_name || text.split_whitespace().any(says), "{path} does not name {row}");
        }
    }
    assert!(rows > 40, "the table was found");
}
