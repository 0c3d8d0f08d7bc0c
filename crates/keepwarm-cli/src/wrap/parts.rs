//! Everything that the outputs depend on: a list of parts, which make the key.

use glob::{MatchOptions, Pattern, glob};
use keepwarm::Fingerprint;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

/// How much of a file is read at a time, in bytes.
const CHUNK: u64 = 1 << 20;
/// The kind of parts whose names are places in the command line.
pub(super) const ARGUMENT: &str = "argument";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) program: &'a Path,
    pub(crate) words: &'a [OsString],
    pub(crate) inputs: &'a [String],
    pub(crate) outputs: &'a [PathBuf],
    pub(crate) variables: &'a [OsString],
    pub(crate) stdin: Option<&'a [u8]>,
    pub(crate) folder: bool,
    /// What modes new files do not have.
    pub(crate) umask: u32,
}

/// One thing that the outputs depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: &'static str,
    pub(crate) name: OsString,
    pub(crate) digest: Fingerprint,
}

fn part(kind: &'static str, name: impl Into<OsString>, digest: Fingerprint) -> Part {
    let name = name.into();
    Part { kind, name, digest }
}

fn of_bytes(bytes: &[u8]) -> Fingerprint {
    let builder = Fingerprint::builder("keepwarm exec value");
    builder.field("value", bytes).finish()
}

/// The key of a list of parts.
pub(crate) fn key(parts: &[Part]) -> Fingerprint {
    let start = Fingerprint::builder("keepwarm exec 1");
    let all = parts.iter().fold(start, |key, part| {
        key.field("kind", part.kind)
            .field("name", part.name.as_encoded_bytes())
            .field("digest", part.digest.as_bytes())
    });
    all.finish()
}

/// A pattern of inputs that matches an output, which then depends on itself.
///
/// It counts whether or not the output is there, so that the first run is told of it.
pub(crate) fn overlap<'a>(
    inputs: &'a [String],
    outputs: &'a [PathBuf],
) -> Option<(&'a str, &'a Path)> {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let found = inputs.iter().find_map(|text| {
        let plain = text.trim_start_matches("./");
        let pattern = Pattern::new(plain).ok()?;
        let matches = |path: &Path| {
            let path: PathBuf = path.components().skip_while(is_here).collect();
            pattern.matches_path_with(&path, options)
        };
        let output = outputs.iter().find(|output| matches(output));
        // The same file by another name, where it is there.
        let output = output.or_else(|| {
            let mut there = outputs.iter().filter(|output| output.exists());
            let first = there.next()?;
            let all: Vec<_> = glob(text)
                .ok()?
                .flatten()
                .map(|path| place(&path))
                .collect();
            std::iter::once(first)
                .chain(there)
                .find(|output| all.contains(&place(output)))
        });
        output.map(|output| (text, output))
    });
    found.map(|(text, output)| (text.as_str(), output.as_path()))
}

fn is_here(part: &Component<'_>) -> bool {
    *part == Component::CurDir
}

/// For clap: a pattern that means something.
pub(crate) fn parse_pattern(text: &str) -> Result<String, String> {
    Pattern::new(text).map_err(|e| format!("{e}; `[[]` stands for a bracket"))?;
    Ok(text.to_owned())
}

/// For clap: the name of a variable. With a value behind it, it would be the name of none, and no
/// change would ever be seen.
pub(crate) fn parse_variable(text: &str) -> Result<OsString, String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err("give the name alone: the value is the one that it has".into());
    }
    Ok(text.into())
}

/// Reads everything that the outputs depend on; or says why that cannot be told.
pub(crate) fn gather(asked: &Asked<'_>) -> Result<Vec<Part>, String> {
    let unreadable = |path: &Path, e: &io::Error| format!("could not read {}: {e}", path.display());
    let read = |kind, path: &Path| -> Result<Part, String> {
        let digest = of_file(path).map_err(|e| unreadable(path, &e))?;
        Ok(part(kind, path, digest))
    };
    let mut parts = vec![read("program", asked.program)?];
    for (i, word) in asked.words.iter().enumerate() {
        let digest = of_bytes(word.as_encoded_bytes());
        parts.push(part(ARGUMENT, i.to_string(), digest));
    }
    for path in files(asked)? {
        parts.push(read("input", &path)?);
    }
    for output in asked.outputs {
        parts.push(part("output", output, of_bytes(b"")));
    }
    for name in asked.variables {
        let value = std::env::var_os(name);
        // Unset is not the same as empty.
        let digest = match &value {
            Some(value) => of_bytes(value.as_encoded_bytes()),
            None => Fingerprint::builder("keepwarm exec unset").finish(),
        };
        parts.push(part("variable", name, digest));
    }
    parts.push(part("umask", "", of_bytes(&asked.umask.to_le_bytes())));
    if let Some(bytes) = asked.stdin {
        parts.push(part("standard input", "", of_bytes(bytes)));
    }
    if asked.folder {
        let folder = std::env::current_dir().map_err(|e| unreadable(Path::new("."), &e))?;
        let digest = of_bytes(folder.as_os_str().as_encoded_bytes());
        parts.push(part("current directory", "", digest));
    }
    Ok(parts)
}

/// The files that are inputs, each once, in an order that is always the same.
fn files(asked: &Asked<'_>) -> Result<BTreeSet<PathBuf>, String> {
    let outputs: Vec<PathBuf> = asked.outputs.iter().map(|path| place(path)).collect();
    let is_input = |path: &Path| path.is_file() && !outputs.contains(&place(path));
    let mut found = BTreeSet::new();
    for pattern in asked.inputs {
        let paths = glob(pattern).map_err(|e| format!("--input {pattern}: {e}"))?;
        let mut any = false;
        for path in paths {
            let path = path.map_err(|e| format!("--input {pattern}: {e}"))?;
            if is_input(&path) {
                found.insert(path);
                any = true;
            }
        }
        if !any {
            return Err(format!("--input {pattern} matches no file"));
        }
    }
    let arguments = asked.words.iter().skip(1).map(Path::new);
    found.extend(arguments.filter(|path| is_input(path)).map(PathBuf::from));
    Ok(found)
}

/// Where a file is, whatever it is called.
pub(super) fn place(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = absolute
        .parent()
        .and_then(|folder| folder.canonicalize().ok());
    match (folder, absolute.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

/// The content of a file, and whether it can be run.
fn of_file(path: &Path) -> io::Result<Fingerprint> {
    let mut file = File::open(path)?;
    let mut key = Fingerprint::builder("keepwarm exec file");
    key = key.field("executable", [u8::from(is_executable(&file.metadata()?))]);
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        if file.by_ref().take(CHUNK).read_to_end(&mut chunk)? == 0 {
            return Ok(key.finish());
        }
        key = key.field("chunk", &chunk);
    }
}

#[cfg(unix)]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_meta: &std::fs::Metadata) -> bool {
    false
}

/// The file that a command is, found as shells find it; or the exit code and why not.
pub(crate) fn find_program(name: &OsStr) -> Result<PathBuf, (u8, &'static str)> {
    which::which(name).map_err(|_| {
        let is_path = Path::new(name).components().count() > 1;
        if is_path && Path::new(name).exists() {
            (126, "cannot be run")
        } else {
            (127, "was not found")
        }
    })
}
