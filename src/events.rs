//! Events through the `tracing` crate; nothing at all without the feature of that name.
//!
//! Every event has the target `keepwarm`. What a caller should know about is a `warn`, what it
//! may want to know about a `debug`, what happens all the time a `trace`.

use crate::fingerprint::Fingerprint;
use crate::stats::Eviction;
use std::path::Path;

/// Emits a `tracing` event, or compiles to nothing.
macro_rules! emit {
    ($level:ident, $($event:tt)*) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "keepwarm", tracing::Level::$level, $($event)*);
    }};
}

/// Entries left a tier to make room.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
pub(crate) fn evicted(eviction: &Eviction) {
    emit!(
        DEBUG,
        tier = ?eviction.tier,
        reason = ?eviction.reason,
        entries = eviction.entries,
        bytes = eviction.bytes,
        oldest_age = ?eviction.oldest_age,
        "evicted"
    );
}

/// An entry of a lower tier was handed up.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
pub(crate) fn promoted(key: &Fingerprint, bytes: u64) {
    emit!(TRACE, %key, bytes, "promoted");
}

/// An entry was written below.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
pub(crate) fn demoted(key: &Fingerprint, bytes: u64) {
    emit!(TRACE, %key, bytes, "demoted");
}

/// An entry could not be written below and is not there.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
pub(crate) fn write_failed(key: &Fingerprint, error: &str) {
    emit!(WARN, %key, error, "could not write an artifact below");
}

/// Something damaged was found and is not served.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
pub(crate) fn corrupt(path: &Path, what: &str) {
    emit!(WARN, path = %path.display(), what, "found something damaged");
}
