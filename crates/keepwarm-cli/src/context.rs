//! Which directory is meant, and opening it.

use crate::cli::Cli;
use crate::failure::{Failure, Result, is_missing};
use crate::output;
use crate::settings::{Mode, Settings};
use crate::units;
use keepwarm::{Cache, DiskStore, DiskStoreBuilder, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a sub-command works on.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None` if nothing says where it is.
    directory: Option<PathBuf>,
    settings: Settings,
}

impl Context {
    /// From the command line and the environment.
    pub(crate) fn new(cli: &Cli) -> Result<Self> {
        let settings = Settings::from_env()?;
        let given = cli.global.directory.clone();
        Ok(Self {
            directory: given.or_else(keepwarm::default_path),
            settings,
        })
    }

    /// The cache directory, as it was given; it need not be there.
    pub(crate) fn directory(&self) -> Result<&Path> {
        self.directory.as_deref().ok_or_else(|| {
            Failure::usage("nothing says where the cache is")
                .advise("Give its directory with -C DIR, or set KEEPWARM_DIR.")
        })
    }

    /// What the environment says.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the cache is switched off; if so, says so on standard error. A sub-command then does
    /// nothing, successfully, and finds nothing.
    pub(crate) fn is_off(&self) -> bool {
        let off = self.settings.mode == Mode::Off;
        if off {
            output::note("the cache is switched off: KEEPWARM_MODE=off");
        }
        off
    }

    /// The directory for looking: nothing in it is changed, and it has to be there.
    pub(crate) fn look(&self) -> Result<DiskStore> {
        self.look_at(self.directory()?)
    }

    /// The same for another directory.
    pub(crate) fn look_at(&self, directory: &Path) -> Result<DiskStore> {
        let opened = self.builder().read_only(true).open(directory);
        opened.map_err(|e| explain(directory, e))
    }

    /// The directory for looking; where there is none, that is said on standard error.
    pub(crate) fn look_if_there(&self) -> Result<Option<DiskStore>> {
        let directory = self.directory()?;
        match self.builder().read_only(true).open(directory) {
            Err(e) if is_missing(&e) => {
                let directory = units::printable(&directory.display().to_string());
                output::note(&format!("there is no cache in {directory} yet"));
                Ok(None)
            }
            opened => opened.map(Some).map_err(|e| self.explain(e)),
        }
    }

    /// The directory for changing what is in it; it has to be there. Refused in read-only mode.
    pub(crate) fn change(&self) -> Result<DiskStore> {
        self.refuse_read_only()?;
        let opened = self.builder().must_exist(true).open(self.directory()?);
        opened.map_err(|e| self.explain(e))
    }

    /// The directory for putting something into it; created where it is missing. Refused in
    /// read-only mode.
    pub(crate) fn create(&self) -> Result<DiskStore> {
        self.refuse_read_only()?;
        let opened = self.builder().open(self.directory()?);
        opened.map_err(|e| self.explain(e))
    }

    /// The directory for being served from it; it has to be there. What is used counts as used,
    /// where this user and the mode allow it.
    pub(crate) fn serve(&self) -> Result<DiskStore> {
        if self.settings.mode == Mode::ReadOnly {
            return self.look();
        }
        let directory = self.directory()?;
        match self.builder().must_exist(true).open(directory) {
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Untrusted) => {
                self.look()
            }
            opened => opened.map_err(|e| self.explain(e)),
        }
    }

    /// The cache as a program uses it: made where it is missing, only read where this user or the
    /// mode allows no more; `None` where it is switched off. Another process that builds what is
    /// wanted is waited for no longer than `wait`.
    pub(crate) fn cache(&self, wait: Duration) -> Result<Option<Cache>> {
        if self.settings.mode == Mode::Off {
            return Ok(None);
        }
        let directory = self.directory()?;
        let builder = || {
            Cache::builder()
                .disk_budget(self.settings.max_size)
                .sharing(self.settings.sharing)
                // Half of it is for other processes.
                .build_wait(wait.saturating_mul(2))
        };
        let look = || builder().read_only(true).open(directory);
        let opened = match self.settings.mode {
            Mode::Off | Mode::ReadOnly => look(),
            Mode::ReadWrite => match builder().open(directory) {
                Err(e) if e.kind() == ErrorKind::PermissionDenied => look(),
                opened => opened,
            },
        };
        opened.map(Some).map_err(|e| self.explain(e))
    }

    fn builder(&self) -> DiskStoreBuilder {
        DiskStore::builder()
            .byte_budget(self.settings.max_size)
            .sharing(self.settings.sharing)
    }

    fn refuse_read_only(&self) -> Result<()> {
        if self.settings.mode != Mode::ReadOnly {
            return Ok(());
        }
        let path = self.directory()?.display();
        let what = format!("the cache directory {path} is not changed: KEEPWARM_MODE=read-only");
        Err(Failure::failed(what).advise("Unset KEEPWARM_MODE to change it."))
    }

    fn explain(&self, e: keepwarm::Error) -> Failure {
        let directory = self.directory.as_deref();
        explain(directory.unwrap_or(Path::new("")), e)
    }
}

fn explain(directory: &Path, e: keepwarm::Error) -> Failure {
    if !is_missing(&e) {
        return e.into();
    }
    let what = format!("there is no cache in {}", directory.display());
    Failure::failed(what)
        .advise("Give its directory with -C DIR or KEEPWARM_DIR. It is made by the first put.")
}
