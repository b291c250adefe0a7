//! Who this server is, and what a restart of it goes on with: the grant that it held, and its claim to a machine id, each in a
//! file of the data directory.
//!
//! A copy of the directory has the files as
//! well, so that a grant is for one incarnation only: a promotion makes another timeline, files that were copied are other
//! files, and the machine that was started anew may be another one with the same disk. What is not told by that is told by
//! the token that the authority changes with each answer.

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

/// Who this server is, in this boot of the machine: whom a grant is for. Outside recovery.
pub fn incarnation() -> Incarnation {
    let place = place();
    let mut nonce = DefaultHasher::new();
    place.hash(&mut nonce);
    // What copies on other machines and in other containers do not share, and what is known of the other no longer holds
    // in another boot.
    std::fs::metadata("PG_VERSION").map(|file| file.dev()).ok().hash(&mut nonce);
    std::fs::read("/proc/sys/kernel/random/boot_id").ok().hash(&mut nonce);
    std::fs::metadata("/proc/self/ns/pid").map(|space| space.ino()).ok().hash(&mut nonce);
    Incarnation { nonce: nonce.finish(), ..place }
}

/// Who this server is, over boots of the machine: whose a kept claim is. Outside recovery.
pub fn place() -> Incarnation {
    let mut nonce = DefaultHasher::new();
    // What a copy of the data directory beside its origin does not share: PostgreSQL's processes run in the directory, and
    // this file is written once. Where the file system keeps no time of birth, the number of the file tells a copy.
    if let Ok(file) = std::fs::metadata("PG_VERSION") {
        (file.ino(), file.created().ok()).hash(&mut nonce);
    }
    std::fs::read("/etc/machine-id").ok().hash(&mut nonce);
    // SAFETY: state of this server, which is not in recovery.
    let (system, timeline) = unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::GetWALInsertionTimeLine()) };
    Incarnation { system, timeline, nonce: nonce.finish() }
}

/// Files of the data directory, in which no tool for settings looks and which nobody but the server's user can read.
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

/// How long who could not keep something waits before it is tried again.
pub const KEEP_AGAIN: Micros = 5 * SECOND;

/// Keeps what a restart goes on with. It is on disk when this returns true; else a restart goes on with what was kept
/// before.
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

/// Keeps the claim: a restart is no new one. It is on disk when this returns true.
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
