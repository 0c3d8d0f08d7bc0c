//! What runs in a process of its own, to be killed, starved and lied to.

pub(crate) mod builder;
pub(crate) mod filler;
pub(crate) mod script;
pub(crate) mod verify;
pub(crate) mod worker;

use crate::stores::Kind;
use clap::{Args, Subcommand};
use std::error::Error;
use std::path::PathBuf;

/// What a child is to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Child {
    /// Puts, gets, removes and flushes until it is told to stop, or killed.
    Worker(worker::Settings),
    /// Opens a directory after a fault and says what is in it.
    Verify(verify::Settings),
    /// Every kind of operation once, in one order.
    Script(script::Settings),
    /// Puts until a disk is full, and then goes on.
    Filler(filler::Settings),
    /// Wants what other processes want as well, and builds what is missing.
    Builder(builder::Settings),
}

/// What every child needs to know.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) store: Kind,
    #[arg(long, default_value_t = 1 << 30)]
    pub(crate) budget: u64,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = 60)]
    pub(crate) keys: u32,
}

/// Runs a child.
pub(crate) fn run(child: &Child) -> Result<(), Box<dyn Error>> {
    match child {
        Child::Worker(settings) => worker::run(settings),
        Child::Verify(settings) => verify::run(settings),
        Child::Script(settings) => script::run(settings),
        Child::Filler(settings) => filler::run(settings),
        Child::Builder(settings) => builder::run(settings),
    }
}
