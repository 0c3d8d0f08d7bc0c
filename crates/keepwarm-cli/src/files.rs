//! Files that are not the cache's: read whole, written whole.

use crate::failure::{Failure, Result};
use crate::interrupt::Unfinished;
use crate::units;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The bytes of a file, or of standard input if it is called `-`; refused if there are more than
/// `limit`.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limit.saturating_add(1);
    let done = if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    done.map_err(|e| Failure::io("read", path, &e))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(bytes)
}

/// The failure that something is larger than the budget.
pub(crate) fn too_large(path: &Path, limit: u64) -> Failure {
    let (path, limit) = (path.display(), units::size(limit));
    Failure::failed(format!("{path} is larger than the cache may be: {limit}"))
        .advise("Set KEEPWARM_MAX_SIZE to more.")
}

/// Writes a file that is there whole or not at all, with the modes of any new file: aside, then
/// renamed. What is no regular file, such as a device, is written to.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: io::Error| Failure::io("write", path, &e);
    let target = match path.metadata() {
        Ok(meta) if !meta.is_file() => {
            let mut file = File::options().write(true).open(path).map_err(failed)?;
            return file.write_all(bytes).map_err(failed);
        }
        // The file behind a symlink is what is meant.
        Ok(_) => path.canonicalize().map_err(failed)?,
        Err(_) => path.to_path_buf(),
    };
    write_aside(&target, bytes).map_err(failed)
}

fn write_aside(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keepwarm-");
    // The umask takes away from it; a temporary file is private otherwise.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let (mut file, _unfinished) = Unfinished::make(|| builder.tempfile_in(folder))?;
    file.write_all(bytes)?;
    file.persist(target).map(drop).map_err(|e| e.error)
}
