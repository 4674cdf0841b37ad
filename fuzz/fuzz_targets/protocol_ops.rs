//! Messages, ends of operations, and time: see [`cairnlog_fuzz::protocol`].
#![no_main]

use cairnlog_fuzz::protocol::{Case, check};

libfuzzer_sys::fuzz_target!(|case: Case| check(&case));
