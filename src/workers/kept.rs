//! Who this server is, and the state from which a restart goes on: the grant that it held, and its claim to a machine id,
//! each in a file of the data directory.
//!
//! A copy of the directory has these files too, so a grant is for one incarnation only. A promotion makes another timeline;
//! copied files are other files; and a machine that was booted again may be another one with the same disk. Copies that even
//! this does not tell apart are recognized by the token that the authority changes with each answer.

use crate::{
    mechanism::{Micros, SECOND},
    protocol::{
        grants::{Grant, Incarnation, Member},
        message::Claim,
    },
    shared,
};
use pgrx::pg_sys;
use std::{
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
};

/// This server in this boot of the machine: the incarnation that a grant is for. Outside recovery.
pub fn incarnation() -> Incarnation {
    let place = place();
    let mut nonce = DefaultHasher::new();
    place.hash(&mut nonce);
    // These differ between copies on other machines and in other containers, and in another boot of the machine.
    std::fs::metadata("PG_VERSION").map(|file| file.dev()).ok().hash(&mut nonce);
    std::fs::read("/proc/sys/kernel/random/boot_id").ok().hash(&mut nonce);
    std::fs::metadata("/proc/self/ns/pid").map(|space| space.ino()).ok().hash(&mut nonce);
    Incarnation { nonce: nonce.finish(), ..place }
}

/// This server over all boots of the machine: the incarnation that a kept claim is for. Outside recovery.
pub fn place() -> Incarnation {
    let mut nonce = DefaultHasher::new();
    // These differ between a data directory and its copy on the same machine. PostgreSQL's processes run in the directory,
    // and this file is written once. On a file system without birth times, the number of the file tells a copy.
    if let Ok(file) = std::fs::metadata("PG_VERSION") {
        (file.ino(), file.created().ok()).hash(&mut nonce);
    }
    std::fs::read("/etc/machine-id").ok().hash(&mut nonce);
    // SAFETY: state of this server, which is not in recovery.
    let (system, timeline) = unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::GetWALInsertionTimeLine()) };
    Incarnation { system, timeline, nonce: nonce.finish() }
}

/// Files of the data directory: no tool looks there for settings, and only the server's user can read them.
const GRANT: &str = "idgen_grant";
const CLAIM: &str = "idgen_claim";

/// What this server kept, whoever wrote it: see [`Member::start`].
pub fn kept() -> Option<Member> {
    let text = std::fs::read_to_string(GRANT).ok()?;
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next()?.parse::<i64>().ok();
    let me = Incarnation { system: next()? as u64, timeline: next()? as u32, nonce: next()? as u64 };
    let me = if cfg!(feature = "copied_grants") { incarnation() } else { me };
    let (book, epoch, token) = (next()? as u64, next()? as u64, next()? as u64);
    let held = match next()? {
        -1 => None,
        machine => Some(Grant { machine: machine as u64, epoch, from: next()?, until: next()?, length: next()? }),
    };
    Some(Member { me, book, epoch, token, held, released: None, attempt: 0 })
}

/// How long to wait after a failure before the state is kept again.
pub const KEEP_AGAIN: Micros = 5 * SECOND;

/// Keeps the state for a restart. True: it is on disk; false: a restart goes on with the state kept before.
pub fn keep(member: &Member) -> bool {
    let Incarnation { system, timeline, nonce } = member.me;
    let held = member
        .held
        .map_or("-1".into(), |Grant { machine, from, until, length, .. }| format!("{machine} {from} {until} {length}"));
    let Member { book, epoch, token, .. } = *member;
    let (system, nonce, book, token) = (system as i64, nonce as i64, book as i64, token as i64);
    write(GRANT, &format!("{system} {timeline} {nonce} {book} {epoch} {token} {held}\n"))
}

/// The claim to a machine id that this server kept, whoever wrote it.
pub fn kept_claim() -> Option<Claim> {
    std::fs::read_to_string(CLAIM).ok()?.parse().ok()
}

/// Keeps the claim, because a restart is no new one. True: it is on disk.
pub fn keep_claim(claim: &Claim) -> bool {
    write(CLAIM, &format!("{claim}\n"))
}

/// Writes a file as a whole or not at all.
fn write(name: &str, text: &str) -> bool {
    let written = || {
        let new = format!("{name}.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, name)?;
        File::open(".")?.sync_all()
    };
    let written: std::io::Result<()> = written();
    if let Ok(shared) = shared::shared() {
        shared.state.note_kept(written.as_ref().err(), name);
    }
    written.is_ok()
}
