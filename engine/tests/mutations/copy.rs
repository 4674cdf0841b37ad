//! A copy of the engine that can be broken.
//!
//! Owns the copy and how its tests are built. Does not know what is broken in it, nor how the tests end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Edit, INTERLEAVINGS};

/// A copy of the engine that can be broken.
pub(super) struct Copy {
    folder: PathBuf,
}

impl Copy {
    /// With the test binaries of these names.
    pub(super) fn make<'a>(tests: impl Iterator<Item = &'a str>) -> Copy {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        let copy = Copy { folder };
        let _ = fs::remove_dir_all(copy.folder.join("engine"));
        copy_folder(&engine.join("src"), &copy.folder.join("engine/src"));
        copy_folder(&engine.join("tests/common"), &copy.folder.join("engine/tests/common"));
        for name in tests.filter(|name| *name != INTERLEAVINGS) {
            let folder = engine.join("tests").join(name);
            if folder.is_dir() {
                copy_folder(&folder, &copy.folder.join("engine/tests").join(name));
            } else {
                let name = format!("tests/{name}.rs");
                copy.write(&format!("engine/{name}"), &read(&engine.join(&name)));
            }
        }
        // The only unit tests that want a crate which the copy is built faster without.
        copy.write("engine/src/format/batch_tests.rs", "");
        copy.write("engine/FORMAT.md", &read(&engine.join("FORMAT.md")));
        let manifest = read(&engine.join("Cargo.toml"));
        copy.write("engine/Cargo.toml", &manifest.replace("proptest.workspace = true", ""));
        let root = engine.join("..");
        let lines = read(&root.join("Cargo.toml"));
        let lines = lines.lines().filter(|line| !line.starts_with("default-members"));
        let lines = lines.map(|line| match line.starts_with("members") {
            true => "members = [\"engine\"]",
            false => line,
        });
        copy.write("Cargo.toml", &lines.collect::<Vec<_>>().join("\n"));
        copy.write("Cargo.lock", &read(&root.join("Cargo.lock")));
        copy
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder is made");
        fs::write(&path, text).expect("a file is written");
    }

    /// Builds a test binary with some edits made, and puts it aside; where to, or what the compiler said.
    pub(super) fn build(
        &self,
        number: usize,
        edits: &[Edit],
        test: &str,
    ) -> Result<PathBuf, String> {
        let mut before = Vec::new();
        for (file, find, put) in edits {
            let name = format!("engine/src/{file}");
            let text = read(&self.folder.join(&name));
            self.write(&name, &text.replacen(find, put, 1));
            before.push((name, text));
        }
        let built = self.cargo(test);
        for (name, text) in before.iter().rev() {
            self.write(name, text);
        }
        let said = built?;
        let line = said.lines().find(|line| line.contains("Executable"));
        let (_, built) =
            line.and_then(|line| line.split_once('(')).expect("cargo says what it built");
        let aside = self.folder.join(format!("{number}-{test}"));
        fs::copy(self.folder.join(built.trim_end_matches(')')), &aside)
            .expect("a binary is copied");
        Ok(aside)
    }

    fn cargo(&self, test: &str) -> Result<String, String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-run", "--offline", "-p", "cairnlog-engine"]);
        cargo.args(["--no-default-features", "--features", "sim"]);
        let mut target = "target";
        if test == INTERLEAVINGS {
            target = "target-shuttle";
            cargo.arg("--lib").env("RUSTFLAGS", "--cfg shuttle");
        } else {
            cargo.args(["--test", test]);
        }
        cargo.arg("--target-dir").arg(self.folder.join(target)).current_dir(&self.folder);
        cargo.env("CARGO_TERM_COLOR", "never").env("CARGO_INCREMENTAL", "1");
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        let output = cargo.output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder of the source") {
        let path = entry.expect("an entry of the source").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::write(&target, fs::read(&path).expect("a file is read")).expect("it is written");
        }
    }
}
