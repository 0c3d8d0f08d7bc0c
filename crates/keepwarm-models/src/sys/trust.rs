//! Whose files are used: simulated files have no owners.

use std::io;
use std::path::Path;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust {
    Anyone,
}

pub(crate) fn owner(_: &Path, _: bool) -> io::Result<Trust> {
    Ok(Trust::Anyone)
}

pub(crate) fn group(_: &Path) -> io::Result<Trust> {
    Ok(Trust::Anyone)
}

pub(crate) fn share_root(_: &Path) -> io::Result<()> {
    Ok(())
}
