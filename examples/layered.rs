//! A base cache that is shipped with an image, below a writable one, below memory.
//!
//! Whoever builds the image compiles once (`ship`). In a container, where the image's files cannot
//! or must not be changed, the base is opened for reading only: what it has is served, and handed
//! up into the writable directory and into memory; what it has not is compiled and kept above it.
//!
//! ```sh
//! cargo run --example layered
//! ```

use keepwarm::{
    Artifact, DiskStore, Entry, Error, Fingerprint, MemoryStore, Result, Store, StoreExt, Tiered,
};
use std::path::Path;

const SHIPPED: [&str; 3] = ["sky", "water", "stone"];
const WANTED: [&str; 4] = ["sky", "water", "stone", "grass"];

/// Memory, the directory of this machine, the base.
type Cache = Tiered<MemoryStore, Tiered<DiskStore, DiskStore>>;

fn key(shader: &str) -> Fingerprint {
    Fingerprint::builder("layered example")
        .field("compiler", "1.0")
        .field("shader", shader)
        .finish()
}

fn compile(shader: &str) -> Artifact {
    Artifact::from(shader.repeat(1000).into_bytes()) // stands for something slow
}

/// When the image is built.
fn ship(base: &Path) -> Result<()> {
    let store = DiskStore::open(base)?;
    for shader in SHIPPED {
        store.put_bytes(&key(shader), compile(shader))?;
    }
    store.flush()
}

/// When a container starts.
fn open(base: &Path, writable: &Path) -> Result<Cache> {
    // Whoever built the image owns its files, and is trusted.
    let base = DiskStore::builder().read_only(true).open(base)?;
    let writable = DiskStore::builder().byte_budget(1 << 30).open(writable)?;
    let memory = MemoryStore::builder().byte_budget(64 << 20).build()?;
    let disks = Tiered::builder(writable, base).build();
    Ok(Tiered::builder(memory, disks).build())
}

/// The artifacts of all shaders, and how many had to be compiled.
fn load(cache: &Cache) -> Result<usize> {
    let mut compiled = 0;
    for shader in WANTED {
        let artifact = if let Some(found) = cache.get_artifact(&key(shader))? {
            found
        } else {
            compiled += 1;
            let made = compile(shader);
            let _ = cache.put(&key(shader), Entry::from(made.clone()))?;
            made
        };
        assert_eq!(artifact, compile(shader));
    }
    Ok(compiled)
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir().map_err(|e| Error::io("make a directory", "", e))?;
    let (base, writable) = (dir.path().join("image"), dir.path().join("container"));
    ship(&base)?;

    let cache = open(&base, &writable)?;
    let compiled = load(&cache)?;
    println!("first run: {compiled} of {} compiled", WANTED.len());
    let promoted = cache.lower().stats().promotions;
    println!("handed up from the image: {promoted}");
    cache.close()?;

    let cache = open(&base, &writable)?;
    println!("second run: {} of {} compiled", load(&cache)?, WANTED.len());
    let found = cache.lower().upper().stats().hits;
    println!("found in the writable directory: {found}");

    // The image is never changed, so a remove of what it has says so.
    if let Err(refused) = cache.remove(&key("sky")) {
        println!("remove of a shipped shader: {refused}");
    }
    cache.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_shipped_is_compiled_and_that_only_once() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|e| Error::io("make a directory", "", e))?;
        let (base, writable) = (dir.path().join("image"), dir.path().join("container"));
        ship(&base)?;
        let cache = open(&base, &writable)?;
        assert_eq!(load(&cache)?, 1);
        cache.close()?;
        assert_eq!(load(&open(&base, &writable)?)?, 0);
        Ok(())
    }
}
