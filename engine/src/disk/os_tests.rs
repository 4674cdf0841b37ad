//! The real disk on a temporary directory.

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cairnlog-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// S5.
#[test]
fn links_are_refused() {
    let scratch = Scratch::new("links");
    let disk = OsDisk::open(&scratch.0, true, BackendChoice::Blocking).unwrap();
    disk.create("target", 4096).unwrap();
    std::os::unix::fs::symlink("target", scratch.0.join("link")).unwrap();
    assert!(disk.open("link", Access::Read).is_err());
    std::fs::create_dir(scratch.0.join("folder")).unwrap();
    assert!(disk.open("folder", Access::Read).is_err());
    let kinds: Vec<EntryKind> = disk.list().unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds.iter().filter(|k| **k == EntryKind::Other).count(), 2);
}

/// S5: what else a name may stand for. To open a pipe must not wait for somebody at its other end.
#[test]
fn pipes_are_refused_and_second_names_kept() {
    let scratch = Scratch::new("names");
    let disk = OsDisk::open(&scratch.0, true, BackendChoice::Blocking).unwrap();
    let made = std::process::Command::new("mkfifo").arg(scratch.0.join("pipe")).status();
    assert!(made.unwrap().success());
    assert!(disk.open("pipe", Access::Read).is_err());
    let file = disk.create("file", 4096).unwrap();
    assert!(file.try_lock_exclusive().unwrap());
    file.unlock().unwrap();
    std::fs::hard_link(scratch.0.join("file"), scratch.0.join("backup")).unwrap();
    assert!(!file.try_lock_exclusive().unwrap(), "it would be written over");
}

#[test]
fn the_lock_is_for_one() {
    let scratch = Scratch::new("lock");
    let disk = OsDisk::open(&scratch.0, true, BackendChoice::Auto).unwrap();
    assert!(!disk.is_locked().unwrap());
    let held = disk.lock().unwrap();
    assert!(disk.is_locked().unwrap());
    assert_eq!(disk.lock().err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    drop(held);
    assert!(!disk.is_locked().unwrap());
    disk.lock().unwrap();
}

#[test]
fn the_self_test_leaves_zeros_and_writes_come_back() {
    let scratch = Scratch::new("selftest");
    let disk = OsDisk::open(&scratch.0, true, BackendChoice::Blocking).unwrap();
    let file = disk.create("file", 64 << 10).unwrap();
    disk.self_test(&*file, 64 << 10).unwrap();
    let mut read = Aligned::zeroed(64 << 10);
    assert_eq!(file.read_direct_at(&mut read, 0).unwrap(), 64 << 10);
    assert!(read.iter().all(|b| *b == 0));
    let mut block = Aligned::zeroed(4096);
    block.fill(9);
    file.write_durable_at(&block, 8192).unwrap();
    let mut bytes = [0; 4096];
    assert_eq!(file.read_at(&mut bytes, 8192).unwrap(), 4096);
    assert_eq!(bytes, [9; 4096]);
    assert_eq!(file.map().unwrap()[8192..12288], [9; 4096]);
}
