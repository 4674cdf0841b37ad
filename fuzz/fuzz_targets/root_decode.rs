//! Any bytes as the structures around the batches: see [`cairnlog_fuzz::root`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cairnlog_fuzz::root::check(bytes));
