//! Parsing a fingerprint: 64 hexadecimal digits in either case and nothing else.

#![no_main]

use keepwarm::Fingerprint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match text.parse::<Fingerprint>() {
        Ok(key) => {
            assert!(valid, "{text:?} was taken for a fingerprint");
            assert_eq!(key.to_string(), text.to_ascii_lowercase());
            assert_eq!(Fingerprint::from_bytes(*key.as_bytes()), key);
        }
        Err(_) => assert!(!valid, "{text:?} was refused"),
    }
});
