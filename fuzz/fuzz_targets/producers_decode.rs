//! Any bytes as a table of producers: see [`cairnlog_fuzz::producers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cairnlog_fuzz::producers::check(bytes));
