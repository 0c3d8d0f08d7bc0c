//! The operating system: the one seam through which the disk tier touches files, and mappings.
//!
//! Everything the disk tier does to a file goes through [`FileSystem`] and [`RawFile`]. The real
//! implementation is [`real::RealFs`]; tests put failing ones in its place. Paths are absolute and
//! lie below the cache's canonical root; no implementation follows a symlink anywhere in them.

mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod crash;
#[cfg(any(test, fuzzing))]
pub(crate) mod fault;
pub(crate) mod mapping;
pub(crate) mod real;
#[cfg(unix)]
mod remove;
mod seam;
#[cfg(test)]
pub(crate) mod spy;
pub(crate) mod trust;

use std::path::Path;

pub(crate) use clock::CoarseClock;
pub(crate) use real::open_for_reading;
pub(crate) use seam::{Access, FileId, FileSystem, Meta, RawFile};

/// What tells this start of the machine from every other; `None` where the system does not say.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn boot_id() -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut id = Vec::new();
    let file = std::fs::File::open("/proc/sys/kernel/random/boot_id").ok()?;
    file.take(64).read_to_end(&mut id).ok()?;
    // A sandbox may put anything there: what is no id is none.
    (id.len() >= 32).then_some(id)
}

/// See above.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn boot_id() -> Option<Vec<u8>> {
    None
}

/// Whether `path` is on a file system that other machines write too. Only Linux tells; elsewhere
/// the answer is no.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_network_file_system(path: &Path) -> bool {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        trivial_numeric_casts,
        reason = "the type of the number differs from architecture to architecture"
    )]
    rustix::fs::statfs(path).is_ok_and(|found| is_network_magic(found.f_type as i64))
}

/// See above.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_network_file_system(_path: &Path) -> bool {
    false
}

/// Whether a number of `statfs` is that of NFS, SMB, CIFS, SMB2, AFS, Coda, Ceph, NCP, 9P, Lustre,
/// GPFS, OCFS2, GFS2 or the kernel's AFS. FUSE is not told apart: it may be local.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_network_magic(magic: i64) -> bool {
    const MAGICS: [i64; 14] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x5346_414f,
        0x7375_7245,
        0x00c3_6400,
        0x564c,
        0x0102_1997,
        0x0bd0_0bd0,
        0x4750_4653,
        0x7461_636f,
        0x0116_1970,
        0x6b41_4653,
    ];
    // A number with the top bit set may come sign-extended.
    MAGICS.contains(&(magic & 0xffff_ffff))
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri knows no `statfs`")]
    fn network_file_systems_are_told_by_their_numbers_and_local_ones_are_not() {
        const EXT4: i64 = 0xef53;
        const TMPFS: i64 = 0x0102_1994;
        const BTRFS: i64 = 0x9123_683e;
        assert!(is_network_magic(0x6969) && is_network_magic(0xff53_4d42_u32.into()));
        assert!(
            is_network_magic(0xff53_4d42_i64 - (1 << 32)),
            "sign-extended"
        );
        assert!(![EXT4, TMPFS, BTRFS].into_iter().any(is_network_magic));
        assert!(!is_network_file_system(&std::env::temp_dir()));
    }
}
