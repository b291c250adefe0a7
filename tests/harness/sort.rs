//! Sorts a history that is larger than memory: sorted chunks in files, merged.

use super::history::{Call, read, write};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufWriter, Seek};
use std::path::Path;

/// 128 MB of records.
pub const CHUNK: usize = 4 << 20;

/// The calls by rising key, with `chunk` of them in memory and the others in files of `dir`.
pub fn sorted(
    mut calls: impl Iterator<Item = Call>,
    key: fn(&Call) -> i64,
    chunk: usize,
    dir: &Path,
) -> impl Iterator<Item = Call> {
    let mut parts: Vec<Box<dyn Iterator<Item = Call>>> = Vec::new();
    loop {
        let mut part: Vec<Call> = calls.by_ref().take(chunk).collect();
        part.sort_unstable_by_key(key);
        if part.len() < chunk {
            parts.push(Box::new(part.into_iter()));
            return merged(parts, key);
        }
        let mut file = BufWriter::new(tempfile::tempfile_in(dir).unwrap());
        part.into_iter().for_each(|call| write(&mut file, call));
        let mut file = file.into_inner().unwrap();
        file.rewind().unwrap();
        parts.push(Box::new(read(file)));
    }
}

fn merged(mut parts: Vec<Box<dyn Iterator<Item = Call>>>, key: fn(&Call) -> i64) -> impl Iterator<Item = Call> {
    let mut next: Vec<Option<Call>> = parts.iter_mut().map(Iterator::next).collect();
    let entry = move |call: &Option<Call>, part: usize| call.as_ref().map(|call| Reverse((key(call), part)));
    let mut heads: BinaryHeap<_> = next.iter().enumerate().filter_map(|(part, call)| entry(call, part)).collect();
    std::iter::from_fn(move || {
        let Reverse((_, part)) = heads.pop()?;
        let following = parts[part].next();
        heads.extend(entry(&following, part));
        std::mem::replace(&mut next[part], following)
    })
}
