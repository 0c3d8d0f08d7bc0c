//! Archives that nobody should have made: nothing wrong is brought in, nothing outside the cache is
//! touched, nothing unbounded is read, and what is sound before the fault is there.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "support/archives.rs"]
mod archives;
mod support;

use archives::{
    Member, Record, archive, compress, content, end, entry, head, head_of, member, tar,
};
use assert_cmd::Command;
use keepwarm::{Digest, NamespaceId};
use serde_json::Value;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Place, content as artifact, key};
use tar::EntryType;

/// A month ago, in seconds since 1970. Ages of more than 194 days are all the same.
fn then() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() - 30 * 24 * 3600
}

/// What an import of these bytes reports, its exit code, and what it says on standard error. It is
/// neither killed nor panics.
fn import_with(place: &Place, bytes: &[u8], args: &[&str]) -> (Value, i32, String) {
    std::fs::write(place.path("in"), bytes).unwrap();
    let mut all = vec!["import", "in", "--format", "json"];
    all.extend(args);
    let done = bounded(&place.keepwarm(&all)).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    let code = done
        .status
        .code()
        .unwrap_or_else(|| panic!("killed: {said}"));
    // Nothing but the archive and the cache is there.
    for name in std::fs::read_dir(place.path(".")).unwrap() {
        let name = name.unwrap().file_name();
        assert!(name == "in" || name == "cache", "{name:?}");
    }
    let report = serde_json::from_slice(&done.stdout).unwrap_or(Value::Null);
    (report, code, said)
}

/// The same command in a process that may not have more than 512 MiB of memory.
#[cfg(target_os = "linux")]
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("sh");
    bounded.args(["-c", "ulimit -v 524288; exec \"$0\" \"$@\""]);
    bounded.arg(command.get_program()).args(command.get_args());
    bounded.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded
}

#[cfg(not(target_os = "linux"))]
fn bounded(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same.current_dir(command.get_current_dir().unwrap());
    same
}

fn import(place: &Place, bytes: &[u8]) -> (Value, i32, String) {
    import_with(place, bytes, &[])
}

/// Entries `0..n`, without the end.
fn sound(n: u64) -> Vec<Member> {
    let mut members = vec![head()];
    for n in 0..n {
        members.push(content(&artifact(n)));
        members.push(entry(&key(n), &artifact(n), then()));
    }
    members
}

fn with(n: u64, more: &[Member]) -> Vec<Member> {
    let mut members = sound(n);
    members.extend_from_slice(more);
    members
}

/// That of entries `0..most` each is there as it was, or not at all; how many are there.
fn count_sound(place: &Place, most: u64) -> u64 {
    let cache = place.cache();
    let mut found = 0;
    for n in 0..most {
        if let Some(got) = cache.get(&key(n)) {
            assert_eq!(got[..], artifact(n));
            found += 1;
        }
    }
    let entries = cache.disk().unwrap().entries().count() as u64;
    assert_eq!(entries, found, "no other key is bound");
    found
}

#[test]
fn what_is_made_by_hand_as_it_should_be_is_brought_in() {
    let place = Place::empty();
    let (report, code, said) = import(&place, &archive(&with(3, &[end(3, 3)])));
    assert_eq!((code, said.as_str()), (0, ""), "{report}");
    assert_eq!(
        (&report["added"], &report["complete"]),
        (&3.into(), &true.into())
    );
    assert_eq!(count_sound(&place, 3), 3);
}

#[test]
fn what_is_no_archive_is_refused_and_nothing_comes_of_it() {
    let no_head = [content(b"x"), entry(&key(1), b"x", then()), end(1, 1)];
    let mut other = head();
    other.bytes = br#"{"format":"other","version":1}"#.to_vec();
    other.size = other.bytes.len() as u64;
    let mut nonsense = head();
    nonsense.bytes = b"[]".to_vec();
    nonsense.size = 2;
    let mut link = head();
    link.kind = EntryType::Symlink;
    for bytes in [
        Vec::new(),
        b"not at all".to_vec(),
        vec![0; 10_000],
        tar(&with(1, &[end(1, 1)])),
        compress(b""),
        compress(b"no tar"),
        compress(&[0; 10_240]),
        archive(&no_head),
        archive(&[other, end(0, 0)]),
        archive(&[nonsense, end(0, 0)]),
        archive(&[link, end(0, 0)]),
    ] {
        let place = Place::empty();
        let (report, code, said) = import(&place, &bytes);
        assert_eq!((report, code), (Value::Null, 1), "{said}");
        assert!(said.contains("is no archive of keepwarm's"), "{said}");
        assert!(said.contains("`keepwarm export FILE` makes one"), "{said}");
        assert_eq!(count_sound(&place, 3), 0);
    }
}

#[test]
fn a_later_version_is_refused_and_it_says_what_to_do() {
    for version in [0, 2, u64::MAX] {
        let place = Place::empty();
        let members = [
            head_of(version),
            content(b"x"),
            entry(&key(1), b"x", then()),
            end(1, 1),
        ];
        let (report, code, said) = import(&place, &archive(&members));
        assert_eq!((report, code), (Value::Null, 1));
        assert!(said.contains(&format!("of version {version}")), "{said}");
        assert!(said.contains("Use a newer keepwarm"), "{said}");
        assert_eq!(count_sound(&place, 3), 0);
    }
}

#[test]
fn no_name_in_an_archive_is_a_path() {
    let digest = Digest::of(b"evil");
    let long = "d/".repeat(49);
    for name in [
        "../evil".to_owned(),
        "/tmp/keepwarm-evil".to_owned(),
        "evil".to_owned(),
        "content/../../evil".to_owned(),
        format!("../content/{digest}"),
        format!("/content/{digest}"),
        format!("./content/{digest}"),
        format!("content//{digest}"),
        format!("content/{}", digest.to_string().to_uppercase()),
        format!("entry/../{}.json", key(9)),
        "cache/v1/index".to_owned(),
        "content\\evil".to_owned(),
        "a\u{1b}[31m\nb".to_owned(),
        long,
        String::new(),
    ] {
        let place = Place::empty();
        let members = with(2, &[member(&name, b"evil"), end(2, 2)]);
        let (report, code, said) = import(&place, &archive(&members));
        assert_eq!((code, &report["added"]), (1, &2.into()), "{name}: {said}");
        assert_eq!(report["complete"], false);
        assert!(said.contains("was not made by keepwarm"), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
        assert_eq!(count_sound(&place, 2), 2);
    }
    assert!(!std::path::Path::new("/tmp/keepwarm-evil").exists());
}

#[test]
fn what_is_no_regular_file_is_refused_whatever_it_is_called() {
    for kind in [
        EntryType::Link,
        EntryType::Symlink,
        EntryType::Char,
        EntryType::Block,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::XHeader,
        EntryType::new(b'Z'),
    ] {
        for mut bad in [content(b"evil"), entry(&key(0), b"evil", then()), end(1, 1)] {
            let place = Place::empty();
            bad.kind = kind;
            let members = with(1, &[bad, end(1, 1)]);
            let (report, code, said) = import(&place, &archive(&members));
            assert_eq!((code, &report["added"]), (1, &1.into()), "{kind:?}: {said}");
            assert!(said.contains("is no regular file"), "{kind:?}: {said}");
            assert_eq!(count_sound(&place, 1), 1);
        }
    }
}

#[test]
fn an_extended_header_changes_nothing_of_what_follows() {
    // Where it was obeyed, the content would be as long as it says.
    let mut pax = member("pax", b"17 size=99999999\n");
    pax.kind = EntryType::XHeader;
    let place = Place::empty();
    let members = with(1, &[pax, content(b"evil"), end(2, 1)]);
    let (report, code, said) = import(&place, &archive(&members));
    assert_eq!((code, &report["complete"]), (1, &false.into()));
    assert!(said.contains("is no regular file"), "{said}");
}

#[test]
fn sizes_that_lie_are_found_out_without_the_room_they_ask_for() {
    // More than there is, up to what a header can say.
    for size in [
        1 << 20,
        1 << 30,
        4 << 30,
        1 << 40,
        u64::MAX / 2,
        u64::MAX - 600,
        u64::MAX,
    ] {
        for mut bad in [content(b"evil"), entry(&key(0), b"evil", then()), end(1, 1)] {
            bad.size = size;
            let place = Place::empty();
            let (report, code, said) = import(&place, &archive(&with(1, &[bad])));
            assert_eq!((code, &report["added"]), (1, &1.into()), "{size}: {said}");
            assert_eq!(report["complete"], false, "{size}");
            assert_eq!(count_sound(&place, 1), 1);
        }
    }
    // Less than there is: what follows is no header.
    let mut short = content(&[1; 2000]);
    short.size = 10;
    let place = Place::empty();
    let (report, code, _) = import(&place, &archive(&with(1, &[short, end(2, 1)])));
    assert_eq!((code, &report["complete"]), (1, &false.into()));
    assert_eq!(count_sound(&place, 1), 1);
    // What the record says is another number than there are.
    for length in [0, 3, 5, u64::MAX] {
        let place = Place::empty();
        let wrong = archives::entry_of(&key(7), &Digest::of(b"evil"), length, then());
        let members = with(1, &[content(b"evil"), wrong, end(2, 2)]);
        let (report, code, _) = import(&place, &archive(&members));
        assert_eq!((code, &report["damaged"]), (1, &1.into()));
        assert_eq!(count_sound(&place, 1), 1);
    }
}

#[test]
fn content_that_is_not_what_it_is_named_by_is_not_brought_in() {
    let place = Place::empty();
    let mut swapped = content(&artifact(5));
    swapped.bytes[3] ^= 1;
    let members = with(
        2,
        &[
            swapped,
            entry(&key(5), &artifact(5), then()),
            entry(&key(6), &artifact(5), then()),
            content(&artifact(7)),
            entry(&key(7), &artifact(7), then()),
            end(4, 5),
        ],
    );
    let (report, code, said) = import(&place, &archive(&members));
    assert_eq!((code, &report["complete"]), (1, &true.into()));
    assert_eq!(
        (&report["added"], &report["damaged"]),
        (&3.into(), &3.into())
    );
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(
        findings[0]["problem"],
        "its bytes are not those that it is named by"
    );
    assert_eq!(findings[1]["member"], format!("entry/{}.json", key(5)));
    assert!(said.contains("its content is damaged"), "{said}");
    assert_eq!(count_sound(&place, 8), 3, "what follows is brought in");
}

#[test]
fn records_that_do_not_fit_are_passed_over() {
    let good = Record::new(&key(5), &Digest::of(b"evil"));
    let text = String::from_utf8(good.encode()).unwrap();
    let at = |n: u64| format!("entry/{}.json", key(n));
    // Of another content, of none, under another name, with a wrong check, of nonsense.
    let bad = [
        entry(&key(6), b"other", then()),
        member(&at(6), &Record { length: 4, ..good }.encode()),
        member(
            &at(5),
            text.replace("\"length\":0", "\"length\":4").as_bytes(),
        ),
        member(&at(5), &text.as_bytes()[..text.len() - 1]),
        member(&at(5), text.replace("\"put_at\"", "\"put\"").as_bytes()),
        member(&at(5), b"{}"),
        member(&at(5), b""),
        member(&at(5), &[0xff; 100]),
        member(&at(5), "[".repeat(60_000).as_bytes()),
    ];
    let mut members = with(1, &[content(b"evil")]);
    let n = bad.len() as u64;
    members.extend(bad);
    members.push(end(2, 1 + n));
    let place = Place::empty();
    let (report, code, _) = import(&place, &archive(&members));
    assert_eq!((code, &report["complete"]), (1, &true.into()), "{report}");
    assert_eq!(
        (&report["added"], &report["damaged"]),
        (&1.into(), &n.into())
    );
    assert_eq!(count_sound(&place, 1), 1);
    // An entry before any content.
    let place = Place::empty();
    let members = [head(), entry(&key(0), b"", then()), end(0, 1)];
    let (report, code, _) = import(&place, &archive(&members));
    assert_eq!((code, &report["damaged"]), (1, &1.into()));
    assert_eq!(count_sound(&place, 1), 0);
}

#[test]
fn a_namespace_is_called_as_its_id_says_or_the_entry_is_damaged() {
    let bytes = artifact(0);
    let in_namespace = |name: &str, id| Record {
        length: bytes.len() as u64,
        namespace: id,
        name: Some(name.to_owned()),
        ..Record::new(&key(0), &Digest::of(&bytes))
    };
    let long = "n".repeat(5000);
    for (name, id, added) in [
        ("driver", NamespaceId::of("driver"), 1),
        ("driver", NamespaceId::of("other"), 0),
        ("driver", NamespaceId::NONE, 0),
        (&long, NamespaceId::of(&long), 0),
    ] {
        let record = in_namespace(name, id).encode();
        let entry = member(&format!("entry/{}.json", key(0)), &record);
        let place = Place::empty();
        let bytes = archive(&[head(), content(&bytes), entry, end(1, 1)]);
        let (report, code, _) = import(&place, &bytes);
        assert_eq!(report["added"], added, "{report}");
        assert_eq!(code, i32::from(added == 0));
        let names = place.json(&["namespaces"]);
        assert_eq!(names.as_array().unwrap().len(), added);
    }
}

#[test]
fn members_that_are_out_of_place_are_refused() {
    let place = Place::empty();
    let after = [end(2, 2), content(b"evil"), entry(&key(9), b"evil", then())];
    for members in [
        with(2, &[head(), end(2, 2)]),
        with(2, &after),
        with(2, &[end(2, 2), end(2, 2)]),
        with(2, &[member("end.json", &vec![b' '; 70_000])]),
    ] {
        let (report, code, said) = import(&place, &archive(&members));
        assert_eq!((code, &report["complete"]), (1, &false.into()), "{said}");
        assert_eq!(count_sound(&place, 10), 2);
    }
    // Another number of members than there are: some of it is missing.
    let (report, code, said) = import(&place, &archive(&with(2, &[end(3, 3)])));
    assert_eq!((code, &report["damaged"]), (1, &1.into()), "{said}");
    // Something behind the end of the tar file, and behind the compressed bytes.
    let mut behind = tar(&with(2, &[end(2, 2)]));
    behind.extend([7; 512]);
    let mut garbage = archive(&with(2, &[end(2, 2)]));
    garbage.extend(b"garbage");
    for bytes in [compress(&behind), garbage] {
        let (report, code, said) = import(&place, &bytes);
        assert_eq!((code, &report["complete"]), (1, &false.into()), "{said}");
    }
    // As other programs fill it up, it is no fault.
    let mut padded = tar(&with(2, &[end(2, 2)]));
    padded.resize(padded.len().next_multiple_of(10_240), 0);
    let (report, code, said) = import(&place, &compress(&padded));
    assert_eq!((code, &report["complete"]), (0, &true.into()), "{said}");
}

#[test]
fn of_two_entries_of_a_key_the_newer_one_is_taken_wherever_it_stands() {
    for order in [[1, 2], [2, 1]] {
        let place = Place::empty();
        let mut members = vec![head()];
        for n in order {
            members.push(content(&artifact(n)));
            members.push(entry(&key(0), &artifact(n), then() + n));
        }
        members.push(end(2, 2));
        let (report, code, _) = import(&place, &archive(&members));
        assert_eq!(code, 0);
        let (replaced, older) = if order == [1, 2] { (1, 0) } else { (0, 1) };
        assert_eq!(
            (&report["replaced"], &report["older"]),
            (&replaced.into(), &older.into())
        );
        assert_eq!(place.cache().get(&key(0)).unwrap()[..], artifact(2));
    }
}

#[test]
fn what_comes_from_the_future_is_not_newer_than_anything() {
    let place = Place::empty();
    let evil = archive(&[
        head(),
        content(b"evil"),
        entry(&key(0), b"evil", 1 << 40),
        end(1, 1),
    ]);
    let (_, code, _) = import(&place, &archive(&with(1, &[end(1, 1)])));
    assert_eq!(code, 0);
    let (report, code, _) = import(&place, &evil);
    assert_eq!((code, &report["older"]), (0, &1.into()));
    assert_eq!(place.cache().get(&key(0)).unwrap()[..], artifact(0));
    // Where there is nothing it is put now, and goes when something newer comes.
    let place = Place::empty();
    let (report, code, _) = import(&place, &evil);
    assert_eq!((code, &report["added"]), (0, &1.into()));
    let store = keepwarm::DiskStore::open(place.cache_dir()).unwrap();
    let put_at = store.info(&key(0)).unwrap().unwrap().put_at;
    // The times of a new directory run ahead of the clock, by a second at most.
    assert!(put_at < SystemTime::now() + Duration::from_secs(2));
    drop(store);
    // Times that no clock can say.
    for put_at in [1 << 62, u64::MAX] {
        let members = [
            head(),
            content(b"x"),
            entry(&key(3), b"x", put_at),
            end(1, 1),
        ];
        let (_, code, said) = import(&place, &archive(&members));
        assert!(
            code == 0 || code == 1 && said.contains("not what was written"),
            "{said}"
        );
    }
}

#[test]
fn a_bomb_is_stopped_by_what_it_unpacks_to() {
    let place = Place::empty();
    let zeros = vec![0; 8 << 20];
    let bomb = archive(&with(
        1,
        &[content(&zeros), entry(&key(9), &zeros, then()), end(2, 2)],
    ));
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    let (report, code, said) = import_with(&place, &bomb, &["--max-size", "4M"]);
    assert_eq!((code, &report["added"]), (1, &1.into()));
    assert!(said.contains("unpacks to more than 4 MiB"), "{said}");
    assert!(
        said.contains("--recent SIZE") && said.contains("--max-size SIZE"),
        "{said}"
    );
    // The budget is the bound where nothing else is said; many small ones are as one large one.
    let mut members = sound(1);
    for n in 0..40_u8 {
        members.push(content(&vec![n; 100_000]));
    }
    let mut command = place.keepwarm(&["import", "in"]);
    std::fs::write(place.path("in"), archive(&members)).unwrap();
    let done = command.env("KEEPWARM_MAX_SIZE", "2M").assert().code(1);
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains("unpacks to more than 2 MiB"), "{said}");
    assert_eq!(count_sound(&place, 1), 1);
    // Larger than the budget, and asked for all the same: what does not fit is told.
    std::fs::write(place.path("in"), &bomb).unwrap();
    let mut command = place.keepwarm(&["import", "in", "--max-size", "1G"]);
    let done = command.env("KEEPWARM_MAX_SIZE", "4M").assert().code(1);
    let said = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    assert!(said.contains("1 larger than the cache may be"), "{said}");
}

#[test]
fn members_without_end_that_cost_nothing_are_a_bomb_too() {
    // The same members again and again: a few bytes each, once they are compressed.
    let repeated = tar(&[content(b""), entry(&key(0), b"", then())]);
    let repeated = &repeated[..repeated.len() - 1024];
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.write_all(&tar(&[head()])[..1024]).unwrap();
    for _ in 0..200_000 {
        zstd.write_all(repeated).unwrap();
    }
    let bomb = zstd.finish().unwrap();
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    let place = Place::empty();
    let (report, code, said) = import(&place, &bomb);
    assert_eq!((code, &report["complete"]), (1, &false.into()));
    assert!(said.contains("far more members"), "{said}");
    assert!(report["entries"].as_u64().unwrap() < 100_000, "{report}");
}

#[test]
fn a_window_that_asks_for_much_memory_is_refused() {
    let place = Place::empty();
    for (log, fits) in [
        (21, true),
        (23, true),
        (24, false),
        (27, false),
        (30, false),
    ] {
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.window_log(log).unwrap();
        zstd.write_all(&tar(&with(1, &[end(1, 1)]))).unwrap();
        let (_, code, said) = import(&place, &zstd.finish().unwrap());
        assert_eq!(code, i32::from(!fits), "2^{log}: {said}");
    }
}

#[test]
fn what_is_cut_off_anywhere_brings_in_what_was_whole() {
    let whole = archive(&with(4, &[end(4, 4)]));
    let plain = tar(&with(4, &[end(4, 4)]));
    let mut most = 0;
    for at in (0..whole.len()).step_by(whole.len() / 25) {
        let place = Place::empty();
        let (_, code, said) = import(&place, &whole[..at]);
        assert_eq!(code, 1, "{at}: {said}");
        count_sound(&place, 4);
    }
    for at in (0..plain.len() - 1024).step_by(256) {
        let place = Place::empty();
        let (_, code, said) = import(&place, &compress(&plain[..at]));
        assert_eq!(code, 1, "{at}: {said}");
        let found = count_sound(&place, 4);
        assert!(found >= most, "{at}");
        most = found;
    }
    assert_eq!(most, 4);
}

#[test]
fn no_flipped_bit_brings_in_anything_else() {
    // Plain, so that every byte of it is hit, and compressed.
    let plain = tar(&with(3, &[end(3, 3)]));
    let whole = compress(&plain);
    let mut damaged = 0;
    for (n, at) in (0..plain.len() - 1024).step_by(41).enumerate() {
        let place = Place::empty();
        let mut bytes = plain.clone();
        bytes[at] ^= 1 << (n % 8);
        let (_, code, _) = import(&place, &compress(&bytes));
        damaged += code;
        count_sound(&place, 3);
    }
    assert!(damaged > 20, "{damaged}");
    let mut told = 0;
    for (n, at) in (0..whole.len()).step_by(whole.len() / 40).enumerate() {
        let place = Place::empty();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (n % 8);
        let (_, code, said) = import(&place, &bytes);
        // Few bits of a compressed frame mean nothing; of the others the checksum tells at least.
        let found = count_sound(&place, 3);
        assert!(code == 1 || found == 3, "{at}: {said}");
        told += code;
    }
    assert!(told > 30, "{told}");
}
