//! What a directory keeps besides artifacts: stamps of what was verified, a history, notes, leases.
//! Here everything of that is used once.

use super::Common;
use crate::content::{PROBE, bytes, check, fingerprint};
use crate::stores::Kind;
use keepwarm::{Cache, DiskStore, Mapping, Result, Store, Verify};
use std::io::{self, Write};
use std::time::Duration;

/// The key that is built, and whose lease lies in `builds/`.
pub(crate) const BUILT: u32 = PROBE + 16;
/// The name of the note.
pub(crate) const NOTE: &str = "harness";

/// Prints `error WHAT` for what fails, and `wrong K`.
pub(crate) fn run(common: &Common, out: &mut impl Write) -> io::Result<()> {
    let told = |out: &mut dyn Write, what: &str, failed: Option<keepwarm::Error>| match failed {
        Some(error) => writeln!(out, "error {what}: {error:?}"),
        None => Ok(()),
    };
    match open(common) {
        Err(error) => told(out, "open again", Some(error))?,
        Ok(store) => {
            // The first look stamps what is whole, the second one believes the stamps.
            for key in (0..common.keys).chain(0..common.keys) {
                match store.get(&fingerprint(key)) {
                    Ok(Some(entry)) if check(key, &entry.artifact).is_none() => {
                        writeln!(out, "wrong {key}")?;
                    }
                    got => told(out, "get by stamps", got.err())?,
                }
            }
            told(out, "history", store.history().err())?;
            told(out, "note", store.set_note(NOTE, b"a note").err())?;
            match store.note(NOTE) {
                Ok(Some(note)) if note != b"a note" => {
                    writeln!(out, "error the note says {note:?}")?;
                }
                got => told(out, "read a note", got.err())?,
            }
            told(out, "list notes", store.notes().err())?;
            told(out, "remove a note", store.remove_note(NOTE).err())?;
            told(out, "verification", store.verification().run().err())?;
        }
    }
    match build(common) {
        Ok(true) => Ok(()),
        Ok(false) => writeln!(out, "wrong {BUILT}"),
        Err(error) => told(out, "build", Some(error)),
    }
}

fn open(common: &Common) -> Result<DiskStore> {
    let mut builder = DiskStore::builder()
        .byte_budget(common.budget)
        .lock_wait(Duration::from_millis(common.lock_wait))
        .verify(Verify::OncePerBoot);
    if common.store == Kind::Unmapped {
        builder = builder.mapping(Mapping::Never);
    }
    builder.open(&common.dir)
}

/// Builds what is missing under a lease; tells whether it is what was built.
fn build(common: &Common) -> Result<bool> {
    let cache = Cache::builder()
        .disk_budget(common.budget)
        // The lease may be locked by whatever lies there.
        .build_wait(Duration::from_secs(2))
        .open(&common.dir)?;
    let built = cache.get_or_insert_with(&fingerprint(BUILT), || {
        Ok::<_, keepwarm::Error>(bytes(BUILT, 0))
    });
    let is_right = built.map(|built| check(BUILT, &built) == Some(0));
    cache.close()?;
    is_right
}
