//! Other forms of an id: text, UUIDs, and the opaque one for public URLs. Each can be turned back into its id.
#![forbid(unsafe_code)]

pub mod opaque;
pub mod text;
pub mod uuid;
