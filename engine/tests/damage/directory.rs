//! Directories with files of others in them, and directories where files should be.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::{Log, LogReader, OpenError, inspect_on, verify_on};

use crate::made::{ACTIVE, Made, assert_same, config, files};

/// D14.
#[test]
fn foreign_files_are_reported_and_left_alone() {
    let made = Made::new(1);
    let names = ["notes.txt", "7.seg", "00000000000000000001.seg.bak", "superblock.old", "x.tmp"];
    for name in names {
        made.disk.write_file(name, b"somebody's");
    }
    made.disk.plant_directory("folder");
    let report = made.opens_whole();
    let mut foreign = report.foreign;
    foreign.sort();
    let mut expected: Vec<String> = names.map(str::to_owned).into();
    expected.push("folder".to_owned());
    expected.sort();
    assert_eq!(foreign, expected);
    let mut verified = made.verify().foreign;
    verified.sort();
    assert_eq!(verified, expected);
    for name in names {
        assert_eq!(made.disk.read_file(name), b"somebody's");
    }
}

#[test]
fn a_directory_of_another_program_is_refused() {
    let disk = SimDisk::new(1);
    disk.write_file("PG_VERSION", b"17");
    let error = Log::open_on(Arc::new(disk.clone()), config()).expect_err("not a log");
    assert!(matches!(&error, OpenError::NotALog { found, .. } if found == "PG_VERSION"), "{error}");
    assert_eq!(disk.files(), ["PG_VERSION"]);
    let _ = inspect_on(&disk, &mut |_| ControlFlow::Continue(()));
    assert!(verify_on(&disk, &mut |_, _| {}).is_err());
    assert_eq!(disk.files(), ["PG_VERSION"]);
}

#[test]
fn a_log_is_not_made_unasked() {
    let disk = SimDisk::new(1);
    let mut config = config();
    config.create = false;
    let error = Log::open_on(Arc::new(disk.clone()), config).expect_err("there is none");
    assert!(matches!(error, OpenError::NotFound(_)), "{error:?}");
    assert!(LogReader::open_on(Arc::new(disk.clone())).is_err());
    assert!(disk.files().is_empty());
}

/// S5.
#[test]
fn a_directory_in_place_of_a_file() {
    let names = (1..=ACTIVE + 1).map(file_name).chain(["superblock".to_owned()]);
    for name in names {
        let made = Made::new(1);
        made.disk.plant_directory(&name);
        made.look_at_everything();
        let before = files(&made.disk);
        let error = made.open().expect_err("it is no file");
        assert!(matches!(&error, OpenError::NotAFile(n) if *n == name), "{name}: {error:?}");
        assert_same(&before, &files(&made.disk));
    }
}

#[test]
fn a_directory_in_place_of_the_watermark() {
    let made = Made::new(1);
    made.disk.plant_directory("watermark");
    made.look_at_everything();
    let before = files(&made.disk);
    let error = made.open().expect_err("it is no file");
    assert!(matches!(&error, OpenError::NotAFile(n) if n == "watermark"), "{error:?}");
    assert_same(&before, &files(&made.disk));
}
