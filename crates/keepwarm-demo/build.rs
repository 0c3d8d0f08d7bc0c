//! Tells the demo which version of naga it is linked with: the output of a compiler depends on the
//! compiler, so its version is part of every key.

use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), String> {
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?;
    let lock = Path::new(&manifest_dir).join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(&lock).map_err(|e| format!("{}: {e}", lock.display()))?;
    let version = locked_version(&text, "naga")?;
    println!("cargo::rustc-env=NAGA_VERSION={version}");
    Ok(())
}

/// The version of `name` in the text of a `Cargo.lock`; there must be exactly one.
fn locked_version(lock: &str, name: &str) -> Result<String, String> {
    let heading = format!("name = \"{name}\"");
    let mut lines = lock.lines();
    let mut versions = Vec::new();
    while lines.any(|line| line == heading) {
        let version = lines
            .next()
            .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
            .ok_or_else(|| format!("Cargo.lock names {name} without a version"))?;
        versions.push(version);
    }
    match versions.as_slice() {
        [version] => Ok((*version).to_owned()),
        _ => Err(format!("Cargo.lock has {versions:?} of {name}, not one")),
    }
}
