//! Any sequence of operations through one or two handles, with failing calls in between and power cuts
//! at any step, against a model of what may be found then.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keepwarm::fuzzing::weather(input));
