//! The seeds of every target, and what fuzzing found, on any toolchain.

use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use cairnlog_fuzz::{batch, frame, image, operations, producers, protocol, request, root};

fn replay(target: &str, run: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&directory).expect("every target has seeds") {
        let path = entry.expect("it can be listed").path();
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("it can be read"));
        seeds += 1;
    }
    assert!(seeds > 0, "{target} has seeds");
}

fn replay_as<T: for<'a> Arbitrary<'a>>(target: &str, run: impl Fn(&T)) {
    replay(target, |bytes| {
        if let Ok(case) = T::arbitrary_take_rest(Unstructured::new(bytes)) {
            run(&case);
        }
    });
}

#[test]
fn batch_decode() {
    replay("batch_decode", batch::check);
}

#[test]
fn frame_decode() {
    replay("frame_decode", frame::check);
}

#[test]
fn request_decode() {
    replay("request_decode", request::check);
}

#[test]
fn producers_decode() {
    replay("producers_decode", producers::check);
}

#[test]
fn root_decode() {
    replay("root_decode", root::check);
}

#[test]
fn recover_image() {
    replay_as("recover_image", image::check);
}

#[test]
fn engine_ops() {
    replay_as("engine_ops", operations::check);
}

#[test]
fn protocol_ops() {
    replay_as("protocol_ops", protocol::check);
}
