//! Any bytes as an envelope, a pack's header, the index's header, a slot, a table, a file name: never a
//! panic, and what is decoded is encoded to the same bytes again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| keepwarm::fuzzing::decode(input));
