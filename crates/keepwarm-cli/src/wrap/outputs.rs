//! The files that a command writes: read after it ran, and written as it would have written them.

use super::package::{self, ALIGNED_FROM, MODE_BITS, Output, Package};
use crate::interrupt::Unfinished;
use crate::units;
use keepwarm::Artifact;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells whether a file was written since.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Which file, and when anything of it was changed.
    change: (u64, i64, i64),
}

/// The stamps of all outputs; `None` for one that is not there.
pub(crate) fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| path.metadata().ok().map(|meta| stamp(&meta));
    paths.iter().map(stamp).collect()
}

fn stamp(meta: &Metadata) -> Stamp {
    Stamp {
        length: meta.len(),
        modified: meta.modified().ok(),
        change: change(meta),
    }
}

#[cfg(unix)]
fn change(meta: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (meta.ino(), meta.ctime(), meta.ctime_nsec())
}

#[cfg(not(unix))]
fn change(_meta: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

/// Reads all outputs, no more than `limit` bytes; or says why they are not kept. What has the stamp
/// that it had before was not written by the command: nothing says that it is the command's.
pub(crate) fn read(
    paths: &[PathBuf],
    before: &[Option<Stamp>],
    limit: u64,
) -> Result<Vec<Output<Vec<u8>>>, String> {
    let mut left = limit;
    let mut outputs = Vec::new();
    for (path, before) in paths.iter().zip(before) {
        let output = read_one(path, before.as_ref(), left);
        let output =
            output.map_err(|why| format!("the output {} {}", path.display(), why.trim()))?;
        left = left.saturating_sub(output.content.len() as u64);
        outputs.push(output);
    }
    Ok(outputs)
}

fn read_one(path: &Path, before: Option<&Stamp>, limit: u64) -> Result<Output<Vec<u8>>, String> {
    let unreadable = |e: io::Error| format!("could not be read: {e}");
    // Opened only if that does not wait, as a pipe would.
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err("was not written".into()),
        Err(e) => return Err(unreadable(e)),
        Ok(meta) if !meta.is_file() => return Err("is not a regular file".into()),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if before == Some(&stamp(&meta)) {
        return Err("was there before, and not written".into());
    }
    let mode = mode(&meta);
    if mode & !MODE_BITS != 0 {
        return Err("gives the rights of its owner to others".into());
    }
    let mut content = Vec::new();
    let most = limit.saturating_add(1);
    file.take(most)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() as u64 > limit {
        return Err(too_large("", limit));
    }
    Ok(Output { mode, content })
}

/// That something is larger than what is kept.
pub(crate) fn too_large(what: &str, limit: u64) -> String {
    let limit = units::size(limit);
    format!("{what} is too large: {limit} are kept at most (KEEPWARM_MAX_SIZE)")
}

/// What modes new files do not have. Asked while nothing else makes files: it is set, and set back.
#[cfg(unix)]
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    expect(clippy::useless_conversion, reason = "elsewhere a mode has 16 bits")
)]
pub(crate) fn umask() -> u32 {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let mask = umask(Mode::RWXG | Mode::RWXO);
    umask(mask);
    mask.bits().into()
}

#[cfg(not(unix))]
pub(crate) fn umask() -> u32 {
    0
}

#[cfg(unix)]
fn mode(meta: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
}

#[cfg(not(unix))]
fn mode(meta: &Metadata) -> u32 {
    if meta.permissions().readonly() {
        0o444
    } else {
        0o644
    }
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(mode & 0o200 == 0);
    file.set_permissions(permissions)
}

/// Why nothing, or not all, was given back.
#[derive(Debug)]
pub(crate) enum NotRestored {
    /// The bytes are not those of an entry of this command.
    Malformed,
    /// An output could not be written.
    Unwritten(PathBuf, io::Error),
}

/// Writes all outputs aside, renames them, and gives what the command printed.
pub(crate) fn restore<'a>(
    artifact: &'a Artifact,
    paths: &[PathBuf],
) -> Result<(&'a [u8], &'a [u8]), NotRestored> {
    let bytes = artifact.as_slice();
    let found: Package<_> = package::decode(bytes, paths.len()).ok_or(NotRestored::Malformed)?;
    let at = |range| bytes.get(range).ok_or(NotRestored::Malformed);
    // Only what is large has a file of its own.
    let file = artifact.open().ok();
    let mut aside = Vec::new();
    for (path, output) in paths.iter().zip(found.outputs) {
        let content = Content {
            file: file.as_ref(),
            bytes: at(output.content.clone())?,
            range: output.content,
        };
        let written = write_aside(path, &content, output.mode);
        let written = written.map_err(|e| NotRestored::Unwritten(path.clone(), e))?;
        aside.push((path, written));
    }
    let printed = (at(found.stdout)?, at(found.stderr)?);
    for (path, (file, _unfinished)) in aside {
        let renamed = file.persist(path);
        renamed.map_err(|e| NotRestored::Unwritten(path.clone(), e.error))?;
    }
    Ok(printed)
}

/// What an output holds.
struct Content<'a> {
    bytes: &'a [u8],
    /// Where they are in the entry.
    range: Range<usize>,
    /// The file of the entry.
    file: Option<&'a File>,
}

impl Content<'_> {
    fn write(&self, out: &mut File) -> io::Result<()> {
        if self.share(out).unwrap_or(false) {
            return Ok(());
        }
        out.set_len(0)?;
        out.rewind()?;
        out.write_all(self.bytes)
    }

    /// From file to file: a file system that can shares the blocks, others copy without reading
    /// them into this process. `false` if not all of it was written.
    fn share(&self, out: &mut File) -> io::Result<bool> {
        let Some(mut file) = self.file.filter(|_| self.bytes.len() >= ALIGNED_FROM) else {
            return Ok(false);
        };
        let length = self.bytes.len() as u64;
        file.seek(SeekFrom::Start(self.range.start as u64))?;
        Ok(io::copy(&mut file.take(length), out)? == length)
    }
}

/// A rename would get past the protection of a file.
fn check_writable(path: &Path) -> io::Result<()> {
    match File::options().write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        _ => Ok(()),
    }
}

fn write_aside(
    path: &Path,
    content: &Content<'_>,
    mode: u32,
) -> io::Result<(tempfile::NamedTempFile, Unfinished)> {
    match fs::symlink_metadata(path) {
        // A symlink, a device or a folder: the command knows what to do with it.
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is not a regular file")),
        // It was protected since, if that is not how the command leaves it.
        Ok(_) if mode & 0o200 != 0 => check_writable(path)?,
        _ => {}
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".keepwarm-");
    let (mut file, unfinished) = Unfinished::make(|| builder.tempfile_in(folder))?;
    content.write(file.as_file_mut())?;
    set_mode(file.as_file(), mode)?;
    Ok((file, unfinished))
}
