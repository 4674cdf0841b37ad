//! A copy of a package that can be broken.
//!
//! Owns the copy and how its tests are built. Does not know what is broken in it, nor how the tests end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Edit, INTERLEAVINGS, Subject, UNIT};

/// A copy of a package that can be broken, with the packages that it is made of.
pub(super) struct Copy {
    subject: &'static Subject,
    folder: PathBuf,
}

impl Copy {
    /// With the test binaries of these names.
    pub(super) fn make<'a>(
        subject: &'static Subject,
        tests: impl Iterator<Item = &'a str>,
    ) -> Copy {
        let root = subject.root();
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutations-{}", subject.folder));
        let copy = Copy { subject, folder };
        let packages = || [subject.folder].into_iter().chain(subject.made_of.iter().copied());
        for package in packages() {
            let _ = fs::remove_dir_all(copy.folder.join(package));
            copy_folder(&root.join(package).join("src"), &copy.folder.join(package).join("src"));
            for entry in fs::read_dir(root.join(package)).expect("a package") {
                let name = entry.expect("an entry of a package").file_name();
                let name = format!("{package}/{}", name.to_string_lossy());
                if name.ends_with(".md") || name.ends_with(".toml") {
                    copy.write(&name, &read(&root.join(&name)));
                }
            }
        }
        for name in tests.filter(|name| ![INTERLEAVINGS, UNIT].contains(name)).chain(["common"]) {
            let folder = format!("{}/tests/{name}", subject.folder);
            let file = format!("{folder}.rs");
            if root.join(&folder).is_dir() {
                copy_folder(&root.join(&folder), &copy.folder.join(&folder));
            } else if root.join(&file).is_file() {
                copy.write(&file, &read(&root.join(&file)));
            }
        }
        for (name, starts) in subject.without {
            let is_kept = |line: &&str| !starts.iter().any(|start| line.starts_with(start));
            let text = read(&copy.folder.join(name));
            copy.write(name, &text.lines().filter(is_kept).collect::<Vec<_>>().join("\n"));
        }
        let members: Vec<_> = packages().map(|package| format!("\"{package}\"")).collect();
        let lines = read(&root.join("Cargo.toml"));
        let lines = lines.lines().filter(|line| !line.starts_with("default-members"));
        let lines = lines.map(|line| match line.starts_with("members") {
            true => format!("members = [{}]", members.join(", ")),
            false => line.to_owned(),
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
            let name = format!("{}/src/{file}", self.subject.folder);
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
        cargo.args(["test", "--no-run", "--offline", "-p", self.subject.package]);
        cargo.args(["--no-default-features", "--features", "sim"]);
        let mut target = "target";
        match test {
            INTERLEAVINGS => {
                target = "target-shuttle";
                cargo.arg("--lib").env("RUSTFLAGS", "--cfg shuttle");
            }
            UNIT => {
                cargo.arg("--lib");
            }
            _ => {
                cargo.args(["--test", test]);
            }
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
