//! What `exec` will be made of: it keeps what a command wrote, and gives it back. Not used yet.
//!
//! | file | what |
//! |---|---|
//! | `package` | the bytes of an entry: pure |
//! | `child` | the command, run and listened to |

pub(crate) mod child;
pub(crate) mod package;
