//! Events for the `tracing` crate; nothing at all without the feature.
use crate::stats::Eviction;
use std::path::Path;
pub(crate) fn corrupt(_path: &Path, _what: &str) {}
pub(crate) fn evicted(_report: &Eviction) {}
