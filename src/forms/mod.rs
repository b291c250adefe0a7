//! Other forms of an id: text, UUIDs, and the opaque one for public URLs. What each of them made can be read back.
#![forbid(unsafe_code)]

pub mod opaque;
pub mod text;
pub mod uuid;
