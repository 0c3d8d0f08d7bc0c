//! The disk tier over file systems that fail or forget, and over damage.

mod adopting;
mod child;
mod crashes;
mod faults;
mod killed;
mod moved;
mod numbers;
mod pruning;
mod stopped;
mod verifying;
