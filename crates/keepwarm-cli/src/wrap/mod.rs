//! What `exec` is made of: it keeps what a command wrote, and gives it back.
//!
//! | file | what |
//! |---|---|
//! | `parts` | everything that the outputs depend on; the key |
//! | `outputs` | the files that a command writes, read and given back |
//! | `package` | the bytes of an entry: pure |
//! | `claims` | who else writes the same outputs |
//! | `within` | runs inside runs |
//! | `child` | the command, run and listened to |
//! | `tee` | what it prints, passed on and kept |
//! | `nearest` | what changed since the last run |
//! | `voice` | what is said of it |

pub(crate) mod child;
pub(crate) mod claims;
pub(crate) mod nearest;
pub(crate) mod outputs;
pub(crate) mod package;
pub(crate) mod parts;
pub(crate) mod tee;
pub(crate) mod voice;
pub(crate) mod within;
