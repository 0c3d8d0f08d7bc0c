//! What a panic of foreign code leaves behind.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Frees what a panic carried. If that panics as well, what it carries then stays for ever.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    static DROPPED: AtomicU32 = AtomicU32::new(0);

    struct Payload(u32);

    impl Drop for Payload {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            if let Some(left) = self.0.checked_sub(1) {
                std::panic::panic_any(Payload(left));
            }
        }
    }

    #[test]
    fn what_a_panic_carried_is_freed_and_may_panic_again() {
        discard(Box::new(Payload(0)));
        assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
        discard(Box::new(Payload(1)));
        assert_eq!(DROPPED.load(Ordering::Relaxed), 2, "what came then is kept");
    }
}
