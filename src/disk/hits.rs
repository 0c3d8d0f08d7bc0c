//! How often a key was used, in the eight bits that a slot has left.

/// A count of uses, rounded: three bits of mantissa, five of exponent.
///
/// Exact up to 16. From there on a step is an eighth to a sixteenth of the count, and what is less than a
/// step counts with a chance in proportion, so that on the average no use is forgotten: Robert
/// Morris, "Counting large numbers of events in small registers", 1978.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hits(u8);

impl Hits {
    const MANTISSA: u32 = 3;

    /// From the eight bits of a slot, of which any have a meaning.
    pub(super) fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// The inverse.
    pub(super) fn code(self) -> u8 {
        self.0
    }

    /// About how many.
    pub(super) fn count(self) -> u64 {
        let low = u64::from(self.0) & ((1 << Self::MANTISSA) - 1);
        match self.0 >> Self::MANTISSA {
            0 => low,
            exponent => (1 << Self::MANTISSA | low) << (exponent - 1),
        }
    }

    /// After `more` uses. The bits of `dice` decide about what is less than a step: two calls with
    /// the same ones do the same.
    pub(super) fn plus(self, more: u32, dice: u64) -> Self {
        let wanted = self.count().saturating_add(u64::from(more));
        let mut new = self;
        while let Some(next) = new.0.checked_add(1).map(Self) {
            if next.count() > wanted {
                let (step, left) = (next.count() - new.count(), wanted - new.count());
                // Ticks grow, and only their high bits after this do not.
                let dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let reached = u128::from(left) << 32 > u128::from(dice) * u128::from(step);
                return if reached { next } else { new };
            }
            new = next;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_code_is_a_higher_count_and_16_are_exact() {
        for code in 1..=u8::MAX {
            let (below, this) = (Hits(code - 1).count(), Hits(code).count());
            assert!(below < this);
            assert!(this - below <= 1 + below / 8, "{code}");
        }
        let mut hits = Hits::default();
        for n in 1..=16 {
            hits = hits.plus(1, n);
            assert_eq!(hits.count(), n);
        }
        assert_eq!(Hits::default().plus(11, 0).count(), 11);
    }

    #[test]
    fn many_single_uses_are_about_right_on_the_average() {
        let mut sum = 0;
        for run in 0..200_u64 {
            let uses = 0..1000_u64;
            let hits = uses.fold(Hits::default(), |hits, n| {
                hits.plus(1, (run * 1000 + n) * 1_017)
            });
            sum += hits.count();
        }
        let mean = sum / 200;
        assert!((900..1100).contains(&mean), "{mean}");
    }

    #[test]
    fn a_count_stops_at_the_highest_code() {
        assert_eq!(Hits(u8::MAX).plus(u32::MAX, 5), Hits(u8::MAX));
        let mut hits = Hits::default();
        for n in 0..100 {
            hits = hits.plus(u32::MAX, n);
        }
        assert_eq!(hits, Hits(u8::MAX));
    }
}
