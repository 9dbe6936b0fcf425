//! Exit codes of both programs; where the contract is silent they follow sysexits.h.

/// All well.
pub const OK: u8 = 0;
/// Refused, not found, or something is wrong.
pub const REFUSED: u8 = 1;
/// The command line is not understood.
pub const USAGE: u8 = 2;
/// The daemon cannot be reached.
pub const UNREACHABLE: u8 = 69;
/// A fault inside the program: a task ended that must not end.
pub const SOFTWARE: u8 = 70;
/// The disk does not do what it must.
pub const STORAGE: u8 = 74;
/// Not now: another process holds the state directory.
pub const BUSY: u8 = 75;
/// The caller may not do this.
pub const FORBIDDEN: u8 = 77;
/// The configuration (or the root key) is wrong; a restart will not help.
pub const CONFIG: u8 = 78;
