//! A damaged directory: see [`cairnlog_fuzz::image`].
#![no_main]

libfuzzer_sys::fuzz_target!(|case: cairnlog_fuzz::image::Case| cairnlog_fuzz::image::check(&case));
