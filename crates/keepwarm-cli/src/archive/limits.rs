//! Readers that count, so that nothing is believed but what was read.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// How many bytes came out of a [`Counted`] so far.
pub(super) type Count = Rc<Cell<u64>>;

/// Tells how many bytes were read from `R`, and tells `each` as well.
pub(super) struct Counted<R, F> {
    from: R,
    count: Count,
    each: F,
}

impl<R: Read, F: FnMut(u64)> Counted<R, F> {
    pub(super) fn new(from: R, each: F) -> (Self, Count) {
        let count = Count::default();
        let counted = Self {
            from,
            count: Rc::clone(&count),
            each,
        };
        (counted, count)
    }
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        let count = self.count.get().saturating_add(n as u64);
        self.count.set(count);
        (self.each)(count);
        Ok(n)
    }
}

/// Reads all of a member that claims to have `size` bytes. No more is allocated than came, but for
/// what a vector that grows has in reserve.
pub(super) fn read_exactly(from: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    const AT_ONCE: u64 = 1 << 20;
    let room = usize::try_from(size.min(AT_ONCE)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(room);
    from.take(size).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_more_than_there_is_fails_without_room_for_it() {
        let bytes = read_exactly(&mut &[7; 10][..], 10).unwrap();
        assert_eq!(bytes, [7; 10]);
        let e = read_exactly(&mut &[7; 10][..], u64::MAX).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn bytes_are_counted_as_they_are_read() {
        let mut seen = Vec::new();
        let (mut counted, count) = Counted::new(&[0; 10][..], |n| seen.push(n));
        counted.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(count.get(), 4);
        counted.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(count.get(), 10);
        drop(counted);
        assert_eq!(seen.first(), Some(&4));
    }
}
