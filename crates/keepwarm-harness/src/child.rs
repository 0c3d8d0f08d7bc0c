//! What runs in a process of its own, to be killed, starved and lied to.

pub(crate) mod builder;
pub(crate) mod extras;
pub(crate) mod filler;
pub(crate) mod forker;
pub(crate) mod script;
pub(crate) mod verify;
pub(crate) mod worker;

use crate::content;
use crate::stores::{self, Kind, Opened};
use clap::{Args, Subcommand};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Puts and forks.
    Forker(forker::Settings),
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
    /// Milliseconds that a write waits for a lock.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) lock_wait: u64,
    /// All artifacts are a few bytes.
    #[arg(long)]
    pub(crate) tiny: bool,
}

impl Common {
    pub(crate) fn open(&self) -> keepwarm::Result<Opened> {
        let settings = stores::Settings {
            budget: self.budget,
            lock_wait: Duration::from_millis(self.lock_wait),
        };
        self.store.open(&self.dir, settings)
    }

    /// The bytes of a key in a generation.
    pub(crate) fn bytes(&self, key: u32, generation: u64) -> Vec<u8> {
        if self.tiny {
            content::tiny(key, generation)
        } else {
            content::bytes(key, generation)
        }
    }
}

/// Runs a child.
pub(crate) fn run(child: &Child) -> Result<(), Box<dyn Error>> {
    match child {
        Child::Worker(settings) => worker::run(settings),
        Child::Verify(settings) => verify::run(settings),
        Child::Script(settings) => script::run(settings),
        Child::Filler(settings) => filler::run(settings),
        Child::Forker(settings) => forker::run(settings),
        Child::Builder(settings) => builder::run(settings),
    }
}
