//! The mechanism: everything that decides which id is given, without PostgreSQL, without `unsafe`, and with every
//! clock reading handed in. What can go wrong in time or between threads is decided here, where a test is cheap.
#![forbid(unsafe_code)]

pub mod allocator;
pub mod clock;
pub mod definition;
pub mod horizon;
pub mod layout;
pub mod loan;

/// Microseconds: an instant is counted from the Unix epoch, a duration stands by itself.
pub type Micros = i64;

/// One second in [`Micros`].
pub const SECOND: Micros = 1_000_000;
