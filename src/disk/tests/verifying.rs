//! Gets and verifications on a file system that fails, at every call in turn: what cannot be read
//! is never taken for damage.

use super::faults::open;
use super::pruning::{content, key};
use crate::disk::trial::fast_dir;
use crate::disk::{DiskStore, Fault, Mapping, Verify};
use crate::store::Store;
use crate::sys::fault::{FaultFs, Plan};
use std::path::Path;
use std::sync::Arc;

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;

/// A directory with small, shared and large artifacts, whose times are settled or not.
fn populated() -> tempfile::TempDir {
    let dir = fast_dir();
    let store = open(dir.path(), &Arc::default());
    for i in 0..6 {
        let _ = store.put(&key(i), content(i, 0).into()).unwrap();
    }
    let _ = store.put(&key(50), vec![50; 300_000].into()).unwrap();
    store.flush().unwrap();
    dir
}

fn expect_all(found: impl Fn(u64) -> Option<Vec<u8>>, what: &str) {
    for i in 0..6 {
        assert!(found(i) == Some(content(i, 0)), "{what}: {i}");
    }
    assert!(found(50) == Some(vec![50; 300_000]), "{what}: 50");
}

/// Opens `dir` and runs `act` with the `n`-th call failing; tells whether one did.
fn with_failure(
    dir: &Path,
    (verify, mapping): (Verify, Mapping),
    (n, lasting, errno): (u64, bool, i32),
    act: impl FnOnce(&DiskStore),
) -> bool {
    let plan = Arc::new(Plan::default());
    let store = DiskStore::builder()
        .verify(verify)
        .mapping(mapping)
        .lock_wait(std::time::Duration::from_millis(20))
        .open_with(dir.canonicalize().unwrap(), Arc::new(FaultFs::real(&plan)))
        .unwrap();
    plan.fail(n, lasting, errno);
    act(&store);
    let failed = plan.stop() > 0;
    assert_eq!(
        store.stats().corrupt,
        0,
        "{verify:?} {mapping:?} {n} {lasting} {errno}"
    );
    failed
}

#[test]
fn a_call_that_fails_is_an_error_of_a_get_and_never_taken_for_damage() {
    let dir = populated();
    let policies = [
        (Verify::OnLoad, Mapping::Large),
        (Verify::OncePerProcess, Mapping::Never),
        (Verify::OncePerBoot, Mapping::Large),
        (Verify::Never, Mapping::IndexOnly),
    ];
    let mut points = 0;
    for errno in [EIO, EMFILE, EACCES, ENOMEM] {
        for settings in policies {
            for lasting in [false, true] {
                for n in 1.. {
                    let what = format!("{settings:?}, call {n}, lasting {lasting}, error {errno}");
                    let failed = with_failure(dir.path(), settings, (n, lasting, errno), |store| {
                        for i in [0, 1, 2, 50] {
                            if let Ok(Some(found)) = store.get(&key(i)) {
                                let right = if i == 50 {
                                    vec![50; 300_000]
                                } else {
                                    content(i, 0)
                                };
                                assert!(found.artifact.as_slice() == right, "{what}: {i}");
                            }
                        }
                    });
                    points += 1;
                    if !failed {
                        break;
                    }
                }
            }
        }
    }
    assert!(points > 200, "{points} calls failed");
    let store = open(dir.path(), &Arc::default());
    expect_all(
        |i| {
            store
                .get(&key(i))
                .unwrap()
                .map(|found| found.artifact.to_vec())
        },
        "after",
    );
    assert!(store.verification().run().unwrap().is_sound());
}

#[test]
fn a_call_that_fails_in_a_verification_is_never_taken_for_damage_and_repaired() {
    let dir = populated();
    let mut points = 0;
    // Without a mapping every slot is a call: not every one of these.
    for (mapping, stride) in [(Mapping::IndexOnly, 1), (Mapping::Never, 61)] {
        for (lasting, errno) in [(false, EIO), (true, EMFILE), (false, EACCES)] {
            for n in (1..).step_by(stride) {
                let what = format!("{mapping:?}, call {n}, lasting {lasting}, error {errno}");
                let settings = (Verify::OnLoad, mapping);
                let failed = with_failure(dir.path(), settings, (n, lasting, errno), |store| {
                    if let Ok(report) = store.verification().repair(true).run() {
                        for fault in [
                            Fault::Damaged,
                            Fault::Missing,
                            Fault::Dangling,
                            Fault::NoPack,
                        ] {
                            assert_eq!(report.count(fault), 0, "{what}: {report:?}");
                        }
                    }
                });
                points += 1;
                if !failed {
                    break;
                }
            }
        }
    }
    assert!(points > 100, "{points} calls failed");
    let store = open(dir.path(), &Arc::default());
    expect_all(
        |i| {
            store
                .get(&key(i))
                .unwrap()
                .map(|found| found.artifact.to_vec())
        },
        "after",
    );
    assert!(store.verification().run().unwrap().is_sound());
}
