//! Any bytes as a message of another node: see [`cairnlog_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cairnlog_fuzz::frame::check(bytes));
