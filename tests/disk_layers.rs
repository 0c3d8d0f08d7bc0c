//! A base directory that is only read, below a writable one, below memory: plain composition.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    DiskStore, ErrorKind, MemoryStore, PutStatus, Store, Tiered, TieredBuilder, WritePolicy,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{bytes, get, key, put};

const LARGE: usize = 300_000;

type Layers = Tiered<DiskStore, DiskStore>;
type Stack = Tiered<MemoryStore, Layers>;

/// Base and writable directory.
struct Dirs(tempfile::TempDir);

impl Dirs {
    /// A base with keys 0 to 9, every third one large.
    fn new() -> Self {
        let dirs = Self(support::fast_dir());
        let base = support::open(&dirs.base());
        for n in 0..10 {
            put(&base, n, content(n));
        }
        base.flush().unwrap();
        dirs
    }

    fn base(&self) -> PathBuf {
        self.0.path().join("base")
    }

    fn writable(&self) -> PathBuf {
        self.0.path().join("writable")
    }

    fn layers(&self, policy: WritePolicy) -> Layers {
        let base = DiskStore::builder().read_only(true).open(self.base());
        let writable = support::open(&self.writable());
        Tiered::builder(writable, base.unwrap())
            .write_policy(policy)
            .build()
    }

    fn stack(&self, policy: WritePolicy) -> Stack {
        let memory = MemoryStore::builder().byte_budget(1 << 20).build().unwrap();
        let builder: TieredBuilder<_, _> = Tiered::builder(memory, self.layers(policy));
        builder.write_policy(policy).build()
    }
}

fn content(n: u64) -> Vec<u8> {
    bytes(n, if n % 3 == 0 { LARGE } else { 400 })
}

/// Names and bytes of a directory.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = support::files(dir).into_iter();
    files
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

#[test]
fn what_the_base_has_is_promoted_into_the_writable_directory_and_into_memory() {
    for policy in POLICIES {
        let dirs = Dirs::new();
        let before = bytes_of(&dirs.base());
        let stack = dirs.stack(policy);
        for n in 0..10 {
            assert!(get(&stack, n) == Some(content(n)), "{policy:?}: {n}");
        }
        assert!(get(&stack, 99).is_none());
        let layers = stack.lower();
        assert_eq!(layers.stats().promotions, 10, "{policy:?}");
        assert_eq!(stack.stats().promotions, 10, "{policy:?}");
        assert_eq!(layers.upper().stats().entries, 10, "{policy:?}");
        stack.flush().unwrap();
        stack.close().unwrap();
        assert!(bytes_of(&dirs.base()) == before, "{policy:?}");
        // It is there without the base.
        let writable = support::open(&dirs.writable());
        for n in 0..10 {
            assert!(get(&writable, n) == Some(content(n)), "{policy:?}: {n}");
        }
    }
}

#[test]
fn a_put_goes_to_the_writable_directory_and_the_next_flush_says_yes() {
    for policy in POLICIES {
        let dirs = Dirs::new();
        let before = bytes_of(&dirs.base());
        let stack = dirs.stack(policy);
        for n in 20..60 {
            let outcome = stack.put(&key(n), content(n).into()).unwrap();
            assert_eq!(outcome.status, PutStatus::Stored);
        }
        // Over what the base has as well.
        put(&stack, 1, bytes(1000, 500));
        stack.flush().unwrap();
        let all = stack.stats();
        assert_eq!((all.failed_puts, all.flush_errors), (0, 0), "{policy:?}");
        let inner = stack.lower().stats();
        assert_eq!((inner.demotions, inner.rejected_puts), (0, 0), "{policy:?}");
        assert!(stack.lower().durability().survives_a_power_cut());
        assert!(get(&stack, 1) == Some(bytes(1000, 500)));
        drop(stack);
        assert!(bytes_of(&dirs.base()) == before, "{policy:?}");
        let stack = dirs.stack(policy);
        for n in 20..60 {
            assert!(get(&stack, n) == Some(content(n)), "{policy:?}: {n}");
        }
        assert!(get(&stack, 1) == Some(bytes(1000, 500)), "{policy:?}");
        assert!(get(&stack, 2) == Some(content(2)), "{policy:?}");
    }
}

#[test]
fn removing_or_clearing_what_the_base_has_fails_clearly_and_changes_nothing() {
    for policy in POLICIES {
        let dirs = Dirs::new();
        let stack = dirs.stack(policy);
        put(&stack, 50, content(50));
        assert!(stack.remove(&key(50)).unwrap());
        assert!(get(&stack, 50).is_none());
        assert!(!stack.remove(&key(51)).unwrap());
        for n in [1, 3] {
            // Whether it was promoted or not.
            assert!(n == 1 || get(&stack, n).is_some());
            let error = stack.remove(&key(n)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
            assert!(error.to_string().contains("base"), "{error}");
            assert!(get(&stack, n) == Some(content(n)), "{policy:?}: {n}");
        }
        assert_eq!(stack.clear().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert!(get(&stack, 2) == Some(content(2)));
        stack.flush().unwrap();
        // What the writable directory alone loses comes to light again from the base.
        put(&stack, 1, bytes(1000, 500));
        stack.flush().unwrap();
        let layers = dirs.layers(policy);
        assert!(get(&layers, 1) == Some(bytes(1000, 500)));
        assert!(layers.upper().remove(&key(1)).unwrap());
        assert!(get(&layers, 1) == Some(content(1)), "{policy:?}");
    }
}

#[test]
fn what_the_writable_directory_cannot_keep_comes_back_in_the_outcome() {
    let dirs = Dirs::new();
    let base = DiskStore::builder().read_only(true).open(dirs.base());
    let small = DiskStore::builder().byte_budget(100_000);
    let small = small.open(dirs.writable()).unwrap();
    let layers = Tiered::builder(small, base.unwrap()).build();
    let outcome = layers.put(&key(70), bytes(70, LARGE).into()).unwrap();
    assert!(outcome.is_rejected());
    assert_eq!(outcome.displaced[0].key, key(70));
    // What the base has is served, promoted or not.
    for n in 0..10 {
        assert!(get(&layers, n) == Some(content(n)), "{n}");
    }
    layers.flush().unwrap();
}

#[test]
fn a_memory_above_a_base_alone_hands_back_what_it_displaces() {
    let dirs = Dirs::new();
    let base = DiskStore::builder().read_only(true).open(dirs.base());
    let memory = MemoryStore::builder().entry_budget(2).build().unwrap();
    let tiered = Tiered::builder(memory, base.unwrap())
        .write_policy(WritePolicy::OnEviction)
        .build();
    let mut displaced = 0;
    for n in 30..40 {
        let outcome = tiered.put(&key(n), content(n).into()).unwrap();
        displaced += outcome.displaced.len();
        assert!(outcome.evictions.is_empty(), "told as events");
    }
    assert_eq!(displaced, 8);
    assert!(tiered.durability().survives_a_power_cut());
    let empty = MemoryStore::builder().build().unwrap();
    assert!(!tiered.stats().read_only && !empty.stats().read_only);
}

#[test]
fn two_bases_are_a_base() {
    let (first, second) = (Dirs::new(), Dirs::new());
    put(&support::open(&second.base()), 77, content(77));
    let open = |dirs: &Dirs| {
        let builder = DiskStore::builder().read_only(true);
        builder.open(dirs.base()).unwrap()
    };
    let bases = Tiered::builder(open(&first), open(&second)).build();
    assert!(bases.stats().read_only);
    let memory = MemoryStore::builder().build().unwrap();
    let stack = Tiered::builder(memory, bases).build();
    assert!(get(&stack, 77) == Some(content(77)) && get(&stack, 3) == Some(content(3)));
    put(&stack, 78, content(78));
    stack.flush().unwrap();
    assert!(get(&stack, 78) == Some(content(78)));
    assert_eq!(
        stack.remove(&key(77)).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
}
