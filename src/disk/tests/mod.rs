//! The disk tier over file systems that fail or forget.

mod crashes;
mod faults;
mod pruning;
mod verifying;
