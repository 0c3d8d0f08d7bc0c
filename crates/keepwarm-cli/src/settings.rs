//! What the environment says. A variable that is set to nothing counts as unset.

use crate::failure::{Failure, Result};
use crate::units;
use keepwarm::Sharing;

/// The budget where nobody says, as the library has it.
const MAX_SIZE: u64 = 5 << 30;

/// What may be done to the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Anything.
    #[default]
    ReadWrite,
    /// It is looked at and served from, never changed.
    ReadOnly,
    /// It is not even opened: everything is a miss, nothing is done.
    Off,
}

impl Mode {
    /// As it is written in `KEEPWARM_MODE`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Off => "off",
        }
    }
}

/// The variables but `KEEPWARM_DIR`, which the library reads itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How large packs and objects may be on disk, in bytes.
    pub(crate) max_size: u64,
    pub(crate) mode: Mode,
    pub(crate) sharing: Sharing,
}

impl Settings {
    /// Reads the environment of the process.
    pub(crate) fn from_env() -> Result<Self> {
        Self::from_variables(|name| match std::env::var(name) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(e) => Err(Failure::usage(format!("{name}: {e}"))),
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        let max_size = match variable("KEEPWARM_MAX_SIZE")? {
            None => MAX_SIZE,
            Some(text) => units::parse_size(&text)
                .map_err(|e| Failure::usage(format!("KEEPWARM_MAX_SIZE={text}: {e}")))?,
        };
        let mode = match variable("KEEPWARM_MODE")?.as_deref() {
            None | Some("read-write") => Mode::ReadWrite,
            Some("read-only") => Mode::ReadOnly,
            Some("off") => Mode::Off,
            Some(text) => {
                let what = format!("KEEPWARM_MODE={text} is none of read-write, read-only and off");
                return Err(Failure::usage(what));
            }
        };
        let sharing = match variable("KEEPWARM_SHARING")?.as_deref() {
            None | Some("private") => Sharing::Private,
            Some("group") => Sharing::Group,
            Some("unchecked") => Sharing::Unchecked,
            Some(text) => {
                let what = format!("KEEPWARM_SHARING={text} is none of private, group, unchecked");
                return Err(Failure::usage(what));
            }
        };
        Ok(Self {
            max_size,
            mode,
            sharing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings> {
        Settings::from_variables(|asked| Ok((asked == name).then(|| value.to_owned())))
    }

    #[test]
    fn what_is_not_set_has_the_default_of_the_library() {
        let settings = read("", "").unwrap();
        assert_eq!(
            (settings.max_size, settings.mode),
            (5 << 30, Mode::ReadWrite)
        );
        assert_eq!(settings.sharing, Sharing::Private);
    }

    #[test]
    fn what_is_set_counts_and_what_makes_no_sense_is_refused() {
        assert_eq!(read("KEEPWARM_MAX_SIZE", "2M").unwrap().max_size, 2 << 20);
        for mode in [Mode::ReadWrite, Mode::ReadOnly, Mode::Off] {
            assert_eq!(read("KEEPWARM_MODE", mode.name()).unwrap().mode, mode);
        }
        let group = read("KEEPWARM_SHARING", "group").unwrap();
        assert_eq!(group.sharing, Sharing::Group);
        for name in ["KEEPWARM_MAX_SIZE", "KEEPWARM_MODE", "KEEPWARM_SHARING"] {
            assert!(matches!(read(name, "On"), Err(Failure::Usage(_))), "{name}");
        }
    }
}
