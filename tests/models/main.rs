//! The two places where reasoning fails, explored exhaustively within small bounds: threads that race for a stamp; and
//! crashes, promotion and clocks. The code explored is the code that runs, copied from src/mechanism/ by the compiler.
//!
//! Every model comes with mutants, which it must catch: a step left out, moved or weakened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

copy::mechanism! { mechanism }

mod durability;
mod slots;
mod threads;
