//! Namespaces keep artifacts apart, and the directory knows their names.

use keepwarm::{Cache, Entry, Fingerprint, NamespaceId};

const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);

fn odd_names() -> Vec<String> {
    [
        "",
        " ",
        "a",
        "A",
        "a ",
        "\0",
        "a\0",
        "../../etc/passwd",
        "ünï",
        "u\u{308}",
        "日本",
        "\u{1F525}\n",
    ]
    .map(String::from)
    .into_iter()
    .chain(["x".repeat(255), "x".repeat(256), "x".repeat(10_000)])
    .collect()
}

#[test]
fn every_string_is_a_namespace_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder().open(dir.path()).unwrap();
    for (n, name) in odd_names().iter().enumerate() {
        cache.namespace(name).put(&KEY, vec![7; n]);
    }
    assert_eq!(cache.get(&KEY), None);
    cache.close().unwrap();

    let cache = Cache::builder().open(dir.path()).unwrap();
    for (n, name) in odd_names().iter().enumerate() {
        let namespace = cache.namespace(name);
        assert_eq!(namespace.name(), name);
        let entry = namespace.get_entry(&KEY).unwrap();
        assert_eq!(entry.artifact.len(), n, "{name:?}");
        assert_eq!(entry.namespace, NamespaceId::of(name));
    }
}

#[test]
fn the_directory_knows_the_names_of_namespaces_that_were_put_to() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder().open(dir.path()).unwrap();
    let name_of = |name| {
        let disk = cache.disk().unwrap();
        disk.namespace_name(NamespaceId::of(name)).unwrap()
    };
    let (put, built, asked) = ("put", "built", "asked");
    cache.namespace(put).put(&KEY, vec![1]);
    let namespace = cache.namespace(built);
    namespace
        .get_or_insert_with(&KEY, || Ok::<_, ()>(vec![1]))
        .unwrap();
    assert!(cache.namespace(asked).get(&KEY).is_none());

    assert_eq!(name_of(put).as_deref(), Some(put));
    assert_eq!(name_of(built).as_deref(), Some(built));
    assert_eq!(name_of(asked), None);

    cache.clear().unwrap();
    cache.namespace(put).put(&KEY, vec![1]);
    assert_eq!(name_of(put).as_deref(), Some(put), "written again");
    assert_eq!(cache.stats().faults, 0);
}

#[test]
fn a_namespace_puts_its_own_name_on_every_entry() {
    let cache = Cache::builder().memory_only().unwrap();
    let namespace = cache.namespace("mine");
    let mut entry = Entry::from(vec![1]);
    entry.namespace = NamespaceId::of("another");
    namespace.put_entry(&KEY, entry);
    assert_eq!(namespace.get_entry(&KEY).unwrap().namespace, namespace.id());

    let other = Fingerprint::from_bytes([2; 32]);
    namespace
        .get_or_insert_with(&other, || Ok::<_, ()>(vec![1]))
        .unwrap();
    assert_eq!(
        namespace.get_entry(&other).unwrap().namespace,
        namespace.id()
    );
}

#[test]
fn removing_in_one_namespace_leaves_the_others_alone() {
    let cache = Cache::builder().memory_only().unwrap();
    let (one, two) = (cache.namespace("1"), cache.namespace("2"));
    for put in [&one, &two] {
        put.put(&KEY, vec![1]);
    }
    cache.put(&KEY, vec![0]);
    assert!(one.remove(&KEY).unwrap());
    assert!(!one.contains(&KEY));
    assert!(two.contains(&KEY) && cache.contains(&KEY));
}

#[test]
fn lookups_in_namespaces_are_lookups_of_the_cache() {
    let cache = Cache::builder().memory_only().unwrap();
    let namespace = cache.namespace("x");
    assert!(namespace.get(&KEY).is_none());
    namespace.put(&KEY, vec![1]);
    assert!(namespace.get(&KEY).is_some());
    let stats = namespace.cache().stats();
    assert_eq!((stats.lookups, stats.hits, stats.puts), (2, 1, 1));
}

/// A get that found the artifact on disk before another process removed it hands it up to memory
/// after the namespace was cleared.
#[test]
fn a_promotion_under_way_brings_nothing_back_after_a_clear() {
    let dir = tempfile::tempdir().unwrap();
    let key = Fingerprint::from_bytes([9; 32]);
    let other = Cache::builder().open(dir.path()).unwrap();
    for round in 0..10_u64 {
        other.namespace("a").put(&key, vec![7; 24 << 20]);
        other.flush().unwrap();
        let cache = Cache::builder().open(dir.path()).unwrap();
        let namespace = cache.namespace("a");
        std::thread::scope(|scope| {
            let get = scope.spawn(|| namespace.get(&key));
            std::thread::sleep(std::time::Duration::from_millis(2 + 3 * round));
            other.namespace("a").remove(&key).unwrap();
            namespace.clear().unwrap();
            let running = !get.is_finished();
            let found = get.join().unwrap().is_some();
            let back = namespace.get(&key).is_some();
            assert!(!back, "round {round}: running {running}, found {found}");
        });
    }
}
