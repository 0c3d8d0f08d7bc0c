//! The rule of `src/sync.rs`, on the text of the files that are compiled here: a lock of the
//! standard library would hang the checker instead of being checked.

use std::fs;
use std::path::{Path, PathBuf};

/// What nothing waits for. `Arc` is the checker's own choice as well; a digest is computed by
/// whoever comes first; the cells of the noted touches are hints, each for itself.
const ALLOWED: [&str; 4] = [
    "use std::sync::Arc;",
    "use std::sync::OnceLock;",
    "use std::sync::PoisonError;",
    "use std::sync::atomic::{AtomicU32, AtomicU64};",
];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the library") {
        let path = entry.expect("a name in it").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of a file that are neither comments nor its unit tests, which come last.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("\nmod tests {").next();
    let lines = code.unwrap_or_default().lines().map(str::trim);
    lines.filter(|line| !line.starts_with("//"))
}

#[test]
fn what_is_checked_takes_its_locks_and_threads_from_one_module() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let mut files = vec![source.join("flight.rs")];
    for tier in ["memory", "disk", "tiered"] {
        rust_files(&source.join(tier), &mut files);
    }
    assert!(files.len() > 40, "the library has moved: {source:?}");
    let is_test = |path: &&PathBuf| {
        let in_folder = path
            .parent()
            .is_some_and(|folder| folder.ends_with("tests"));
        in_folder || path.ends_with("tests.rs") || path.ends_with("fuzzing.rs")
    };
    for path in files.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a file of the library");
        for line in code(&text) {
            let is_foreign = line.contains("std::sync::")
                || ["sleep(", "yield_now(", "spawn(", "Builder"]
                    .iter()
                    .any(|name| line.contains(&format!("thread::{name}")));
            assert!(
                !is_foreign || ALLOWED.contains(&line),
                "{}: {line}: take it from `crate::sync`, see there",
                path.display()
            );
        }
    }
}
