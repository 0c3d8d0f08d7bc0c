//! Progress of long work: a bar on standard error, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many bytes; nothing where standard error is no terminal.
#[allow(dead_code, reason = "for the sub-commands to come")]
pub(crate) fn bytes(total: u64, what: &'static str) -> ProgressBar {
    styled(total, what, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
}

#[allow(dead_code, reason = "for the sub-commands to come")]
fn styled(total: u64, what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    // A template that does not parse is a mistake that a test finds; the default serves then.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
