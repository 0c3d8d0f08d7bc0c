//! Where a cache lives if nobody says.

use std::ffi::OsString;
use std::path::PathBuf;

/// The default directory: `$KEEPWARM_DIR`, else `keepwarm` in the platform's folder for caches.
///
/// That folder is `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows, and elsewhere
/// `$XDG_CACHE_HOME` or else `~/.cache`. An empty variable counts as unset, and so does a relative
/// path in any of them but `KEEPWARM_DIR`. `None` if nothing is set that tells.
///
/// Nothing is created, and no cache uses it by itself: pass it to
/// [`CacheBuilder::open`](crate::CacheBuilder::open).
///
/// ```no_run
/// use keepwarm::Cache;
///
/// let path = keepwarm::default_path().unwrap_or_else(|| "keepwarm-cache".into());
/// let cache = Cache::builder().open_or_memory(path);
/// ```
pub fn default_path() -> Option<PathBuf> {
    from_variables(|name| std::env::var_os(name))
}

fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
    if let Some(path) = set("KEEPWARM_DIR") {
        return Some(path);
    }
    let caches = if cfg!(target_os = "macos") {
        absolute("HOME")?.join("Library").join("Caches")
    } else if cfg!(windows) {
        absolute("LOCALAPPDATA")?
    } else if let Some(path) = absolute("XDG_CACHE_HOME") {
        path
    } else {
        absolute("HOME")?.join(".cache")
    };
    Some(caches.join("keepwarm"))
}

#[cfg(all(test, unix, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_says_something_decides() {
        let path = |variables: &[(&str, &str)]| {
            from_variables(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let home = ("HOME", "/home/me");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        assert_eq!(path(&[]), None);
        assert_eq!(path(&[("HOME", "")]), None);
        assert_eq!(path(&[("HOME", "me")]), None);
        assert_eq!(path(&[home]), Some("/home/me/.cache/keepwarm".into()));
        assert_eq!(path(&[home, xdg]), Some("/xdg/keepwarm".into()));
        let relative = ("XDG_CACHE_HOME", "xdg");
        assert_eq!(
            path(&[home, relative]),
            Some("/home/me/.cache/keepwarm".into())
        );
        assert_eq!(path(&[xdg, ("KEEPWARM_DIR", "here")]), Some("here".into()));
        assert_eq!(
            path(&[xdg, ("KEEPWARM_DIR", "")]),
            Some("/xdg/keepwarm".into())
        );
    }
}
