//! Files that are not the cache's: read whole, written whole.

use crate::failure::{Failure, Result};
use crate::interrupt::Unfinished;
use crate::units;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

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

/// Writes a file that is there whole or not at all; see [`NewFile`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let done = NewFile::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.finish()
    });
    done.map_err(|e| Failure::io("write", path, &e))
}

/// A file that is there whole or not at all, with the modes of any new file: written aside, and
/// renamed when it is finished. What is no regular file, such as a device, is written to.
#[derive(Debug)]
pub(crate) struct NewFile(Kind);

#[derive(Debug)]
enum Kind {
    Aside {
        file: NamedTempFile,
        target: PathBuf,
        _unfinished: Unfinished,
    },
    Direct(File),
}

impl NewFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let target = match path.metadata() {
            Ok(meta) if !meta.is_file() => {
                let file = File::options().write(true).open(path)?;
                return Ok(Self(Kind::Direct(file)));
            }
            // The file behind a symlink is what is meant.
            Ok(_) => path.canonicalize()?,
            Err(_) => path.to_path_buf(),
        };
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".keepwarm-");
        // The umask takes away from it; a temporary file is private otherwise.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, unfinished) = Unfinished::make(|| builder.tempfile_in(folder))?;
        Ok(Self(Kind::Aside {
            file,
            target,
            _unfinished: unfinished,
        }))
    }

    /// Gives it its name.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.0 {
            Kind::Direct(_) => Ok(()),
            Kind::Aside { file, target, .. } => file.persist(target).map(drop).map_err(|e| e.error),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Aside { file, .. } => file.write(buf),
            Kind::Direct(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Aside { file, .. } => file.flush(),
            Kind::Direct(file) => file.flush(),
        }
    }
}
