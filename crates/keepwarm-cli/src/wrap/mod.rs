//! What `exec` is made of: it keeps what a command wrote, and gives it back.
//!
//! | file | what |
//! |---|---|
//! | `parts` | everything that the outputs depend on; the key |
//! | `outputs` | the files that a command writes, read and given back |
//! | `package` | the bytes of an entry: pure |
//! | `child` | the command, run and listened to |
//! | `nearest` | what changed since the last run |

pub(crate) mod child;
pub(crate) mod nearest;
pub(crate) mod outputs;
pub(crate) mod package;
pub(crate) mod parts;
