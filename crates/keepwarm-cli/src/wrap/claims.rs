//! Runs that write the same output at once: none of them may keep what another one wrote.
//!
//! Whoever writes an output, by running a command or by giving back what one wrote, has a file in
//! the folder `exec` of the cache directory, called after the output and locked. The kernel gives the
//! lock up when its holder dies. A file gets its name once it is locked, and after that all
//! others for the same output are looked at: those that are locked are renamed, which tells their
//! holders; those that are not were left by somebody who was killed, and are removed. Of two runs,
//! whichever looks last sees the other one. So a run that was alone at its start, and whose file
//! has its name still, had the output to itself. Names are random and never used again. A command
//! inherits the locks: it goes on writing where its `keepwarm` was killed.
//!
//! What is written without this cache directory, or with one that is only read, is not seen.

use super::within::Within;
use fs4::FileExt;
use keepwarm::Fingerprint;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How a file begins that is not locked yet.
const NEW: &str = "new-";
/// How the file of a run ends that was told of another.
const DISTURBED: &str = "-x";
/// Older files that have no name yet were left.
const GRACE: Duration = Duration::from_secs(3_600);
/// Who finds more files than that looks no further, and is not alone.
const MOST: usize = 1 << 16;

/// Says that outputs are being written, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    files: Vec<(PathBuf, File)>,
    alone: bool,
}

impl Claim {
    /// Says so in `folder`, for these outputs, to all but those who are around.
    pub(crate) fn new(folder: &Path, outputs: &[PathBuf], within: &Within) -> io::Result<Self> {
        create(folder)?;
        let names: BTreeSet<String> = outputs.iter().map(|path| name(path)).collect();
        let mut claim = Self {
            files: Vec::new(),
            alone: true,
        };
        for name in &names {
            claim.files.push(announce(folder, name)?);
        }
        claim.alone = claim.look(folder, &names, within)?;
        #[cfg(unix)]
        for (_, file) in &claim.files {
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
        }
        Ok(claim)
    }

    /// Whether nobody else wrote any of the outputs since.
    pub(crate) fn is_undisturbed(&self) -> bool {
        let has_its_name = |(path, _): &(PathBuf, File)| path.symlink_metadata().is_ok();
        self.alone && self.files.iter().all(has_its_name)
    }

    /// The names of its files, for runs inside this one.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let names = self.files.iter().filter_map(|(path, _)| path.file_name());
        names.map(|name| name.to_string_lossy().into_owned())
    }

    /// Tells all others, and whether there are none.
    fn look(&self, folder: &Path, names: &BTreeSet<String>, within: &Within) -> io::Result<bool> {
        let mut alone = true;
        for (n, entry) in fs::read_dir(folder)?.enumerate() {
            if n == MOST {
                return Ok(false);
            }
            let path = entry?.path();
            if self.files.iter().any(|(own, _)| *own == path) {
                continue;
            }
            let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if within.contains(file.trim_end_matches(DISTURBED)) {
                continue;
            }
            if file.starts_with(NEW) {
                remove_old(&path);
                continue;
            }
            let Some((output, _)) = file.split_once('-') else {
                continue;
            };
            if is_left(&path) {
                // It is gone, or stays: it says nothing any more.
                drop(fs::remove_file(&path));
            } else if names.contains(output) {
                alone = false;
                if !file.ends_with(DISTURBED) {
                    disturb(&path);
                }
            }
        }
        Ok(alone)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for (path, _) in &self.files {
            // Under either name. What stays is not locked, and removed by the next one.
            if fs::remove_file(path).is_err() {
                drop(fs::remove_file(disturbed(path)));
            }
        }
    }
}

/// The same for a path however it is written, and another for another file.
fn name(output: &Path) -> String {
    let place = super::parts::place(output);
    let name = Fingerprint::builder("keepwarm exec output");
    let name = name.field("path", place.as_os_str().as_encoded_bytes());
    name.finish().to_string()
}

/// The folder, for whom the cache directory is.
fn create(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {
            let around = folder.parent().unwrap_or(folder).metadata()?;
            fs::set_permissions(folder, around.permissions())
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if folder.symlink_metadata()?.is_dir() {
                Ok(())
            } else {
                Err(e)
            }
        }
        Err(e) => Err(e),
    }
}

fn announce(folder: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(NEW).rand_bytes(16);
    // Others of the group have to see the lock.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let new = builder.tempfile_in(folder)?;
    // Nobody else knows it.
    FileExt::try_lock(new.as_file()).map_err(io::Error::other)?;
    let random = new.path().file_name().unwrap_or_default().to_string_lossy();
    let random = random.trim_start_matches(NEW).to_owned();
    let path = folder.join(format!("{name}-{random}"));
    let file = new.persist_noclobber(&path).map_err(|e| e.error)?;
    Ok((path, file))
}

/// Whether the one who made it is gone.
fn is_left(path: &Path) -> bool {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        // Whatever was put there is neither followed nor waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    }
    // What cannot be opened is another user's, who may be there.
    let file = options.open(path);
    file.is_ok_and(|file| FileExt::try_lock(&file).is_ok())
}

fn remove_old(path: &Path) {
    let made = path.symlink_metadata().and_then(|meta| meta.modified());
    let age = made.map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
    if age.is_ok_and(|age| age > GRACE) {
        drop(fs::remove_file(path));
    }
}

fn disturbed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DISTURBED);
    name.into()
}

fn disturb(path: &Path) {
    // It has ended, or it could not be told. The second takes another user, and a directory that
    // this one may write to and not change: such a one is refused.
    drop(fs::rename(path, disturbed(path)));
}
