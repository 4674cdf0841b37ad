//! Operations, power cuts and faults: see [`cairnlog_fuzz::operations`].
#![no_main]

use cairnlog_fuzz::operations::{Case, check};

libfuzzer_sys::fuzz_target!(|case: Case| check(&case));
