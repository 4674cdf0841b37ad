//! Any bytes as a batch: see [`cairnlog_fuzz::batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cairnlog_fuzz::batch::check(bytes));
