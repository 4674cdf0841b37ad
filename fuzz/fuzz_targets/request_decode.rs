//! Any bytes as a request of a client, or an answer to one: see [`cairnlog_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cairnlog_fuzz::request::check(bytes));
