//! Progress of long work: a bar on standard error, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// What a bar of bytes looks like.
const BYTES: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";

/// A bar of so many bytes; nothing where standard error is no terminal.
pub(crate) fn bytes(total: u64, what: &'static str) -> ProgressBar {
    styled(total, what, BYTES)
}

/// Something that turns while work of unknown length goes on.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    spinner
}

fn styled(total: u64, what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    // A template that does not parse is a mistake that a test finds; the default serves then.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_looks_of_bars_are_well_formed() {
        assert!(ProgressStyle::with_template(BYTES).is_ok());
        // Whether what is no template is refused at all.
        assert!(ProgressStyle::with_template("{msg:x}").is_err());
    }
}
