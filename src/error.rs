//! Every error that a user can meet, with its SQLSTATE and what to do about it.

use crate::mechanism::{Micros, layout::Layout};
use pgrx::{
    PgLogLevel, PgSqlErrorCode,
    pg_sys::{self, panic::ErrorReport},
};

/// Why there is no id, or no answer.
#[derive(Clone, Debug)]
pub enum Error {
    // For the DBA of this server to cure.
    NotPreloaded,
    MachineIdUnset,
    /// The clock stands before the layout's epoch.
    BeforeEpoch,
    MachineIdTooLarge {
        machine: u64,
        max: u64,
    },
    InRecovery,
    /// There is no place for the horizon among the replication origins.
    NoOrigin,
    /// The background worker never started.
    NoWorker,
    /// There is no place in shared memory for one more generator.
    NoPlace,
    /// This backend's number does not fit the layout.
    NoBackendNumber {
        max: u64,
    },
    /// The horizon did not move in time.
    HorizonTimeout,
    /// A counter got no block in time; with what it waited for.
    BlockTimeout(&'static str),
    /// A worker did not do a repair, or another errand, in time.
    RepairTimeout {
        has_begun: bool,
    },
    /// There is no key for the opaque form.
    NoOpaqueKey,
    /// The file with the key cannot be used, with the reason as a clause.
    OpaqueKeyFile(String),
    /// The machine gives no random bits.
    NoRandomness,

    // For a DBA to cure, on this server or on another: the authority, a member, a peer.
    /// Strict or block ids, and no authority to ask.
    NoAuthority,
    /// The authority did not answer in time.
    AuthorityTimeout,
    /// The same, with what the member worker says about it.
    AuthorityAway(String),
    /// The authority refused, with its message.
    AuthorityRefused(Option<String>),
    /// The authority has not granted a machine id.
    NoGrant,
    /// A counter with machine bits and a granted machine id: another server may have that id later, and a count has no time.
    CounterWithGrant,
    /// The grant of the machine id has ended and was not renewed.
    GrantEnded,
    /// The machine id was to be given back, but it was not granted.
    NotGranted,
    /// The machine id was not given back in time.
    ReleaseTimeout,
    /// Strict ids are not served now: the authority has no lease.
    NoLease,
    /// Asked to allocate for others, but is no authority.
    NotAnAuthority,
    /// Asked for a machine id, but is a member of another authority itself.
    MemberAsAuthority,
    /// Asked by a server of another cluster; asked for a generator that has another definition here.
    OtherCluster,
    OtherDefinition(String),
    /// The clock of a member is this far ahead of the authority's.
    MemberClock {
        ahead: i64,
    },
    /// A member's clock is right again, but its ids are so far ahead that no grant reaches them.
    MemberIds {
        ahead: Micros,
    },
    /// All machine ids are in use; the first is free after this time, if ever.
    NoMachineFree {
        after: Option<Micros>,
    },
    /// For this long the book may not know all machine ids that are in use.
    BookUnsettled {
        left: Micros,
    },
    /// The worker that writes the book did not answer in time.
    BookTimeout,
    /// The book of grants could not be read or written.
    Book(String),
    /// Another server has the machine id as well.
    MachineTaken {
        by: String,
    },
    /// There is no gossip.
    NoPeers,
    /// Not a message of another server, with the reason as a clause.
    NotAMessage(String),
    /// An id that is too far ahead of the clock to be followed.
    ObservedTooFarAhead,

    // For the user to cure: another argument, another generator, or later.
    /// The layout's time has run out.
    Exhausted,
    CounterExhausted,
    /// The next id is due later than a call may wait: at this time on the effective clock.
    LoanTooLong {
        due: Micros,
    },
    /// A counter's sequence was altered into one that cannot carry a counter.
    NotACounter,
    /// A counter's sequence was set to one of its ids, with this count.
    SetToAnId {
        id: u64,
        count: u64,
    },
    /// Not a generator; with the name that was given, if there is one.
    NotAGenerator(String),
    /// A definition was to be put on something that cannot be a generator.
    NotASequence,
    /// A definition that means nothing, with the reason as a clause.
    BadDefinition(String),
    /// A definition was to be changed.
    DefinitionStays,
    /// Only a superuser can make a generator whose ids come from the authority.
    OrderOfSuperusers,
    /// The ids of this generator tell no time.
    NoTime,
    NegativeId,
    /// A number that no id of the layout can be.
    IdTooLarge {
        max: u64,
    },
    NegativeCount,
    /// An instant outside what the layout can express.
    OutsideLayout(Layout),
    /// Not the text form of an id.
    NotAText(String),
    /// A UUID that was not made of an id.
    NoIdInUuid,
    /// A text that was not made with the key in force.
    NotOpaque(String),
}

impl Error {
    /// Raises it as an ERROR.
    #[cold]
    #[inline(never)]
    pub fn raise(self) -> ! {
        ErrorReport::from(self).report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// For what SQL calls: the value, or an ERROR.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    #[inline(always)]
    fn or_raise(self) -> T {
        self.unwrap_or_else(|error| error.raise())
    }
}

/// How an error is told to the user.
pub struct Told {
    pub code: PgSqlErrorCode,
    pub message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Told {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Told { code, message: message.into(), detail: None, hint: None }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let Told { code, message, detail, hint } = error.told();
        let report = ErrorReport::new(code, shown(message), "idgen");
        let report = if let Some(detail) = detail { report.set_detail(shown(detail)) } else { report };
        if let Some(hint) = hint { report.set_hint(hint) } else { report }
    }
}

/// As this database can show it: names are of its encoding, messages are UTF-8.
fn shown(text: String) -> String {
    // SAFETY: state of this process.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if encoding == pg_sys::pg_enc::PG_UTF8 as i32 { text } else { text.replace(|c: char| !c.is_ascii(), "?") }
}

impl Error {
    /// The table of all errors, by who can cure them, in the order of the table in docs/guarantees.md.
    pub fn told(self) -> Told {
        use PgSqlErrorCode::*;
        match self {
            // For the DBA of this server to cure.
            Error::NotPreloaded => Told::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "idgen is not preloaded")
                .detail("Ids can be read, but none can be given out.")
                .hint("Add it to shared_preload_libraries = 'idgen' in postgresql.conf and restart the server."),
            Error::MachineIdUnset => {
                Told::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the machine id is not set").hint(
                    "Add a line such as idgen.machine_id = 1, another number on each server, to postgresql.conf and \
                     restart the server.",
                )
            }
            Error::BeforeEpoch => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the server's clock stands before the epoch of the layout",
            )
            .hint("Set the machine's clock; if idgen_status() then shows it held, run SELECT idgen_accept_clock()."),
            Error::MachineIdTooLarge { machine, max } => {
                Told::new(ERRCODE_INVALID_PARAMETER_VALUE, format!("machine id {machine} does not fit the layout"))
                    .detail(format!("The layout has room for 0 to {max}."))
                    .hint(format!(
                        "Set idgen.machine_id to a number from 0 to {max}, another one on each server, in \
                         postgresql.conf and restart the server."
                    ))
            }
            Error::InRecovery => {
                Told::new(ERRCODE_READ_ONLY_SQL_TRANSACTION, "no ids are given out during recovery")
                    .hint("Ask the primary, or promote this server.")
            }
            Error::NoOrigin => Told::new(
                ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "there is no place for the durable horizon of idgen",
            )
            .detail("It is kept as a replication origin, and all places for those are taken.")
            .hint(if pgrx::pg_sys::PG_VERSION_NUM >= 180_000 {
                "Raise max_active_replication_origins by one, on the standbys first, and restart the server."
            } else {
                "Raise max_replication_slots by one, on the standbys first, and restart the server."
            }),
            Error::NoWorker => {
                Told::new(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "idgen's background worker has not started")
                    .hint("Raise max_worker_processes by one and restart the server; the server log says more.")
            }
            Error::NoPlace => {
                Told::new(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "there is no place for one more generator")
                    .hint("Raise idgen.max_generators in postgresql.conf and restart the server.")
            }
            Error::NoBackendNumber { max } => Told::new(
                ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                "this session has no backend number that fits the layout",
            )
            .detail(format!("The layout has numbers up to {max}, and the server has room for more processes."))
            .hint(
                "Lower max_connections, autovacuum_max_workers, max_worker_processes or max_wal_senders so that they \
                 fit in all, or use a layout with more backend bits.",
            ),
            Error::HorizonTimeout => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the durable horizon did not move in time")
                    .detail("No id was given out.")
                    .hint(
                        "Try again. If it goes on: is the synchronous standby there, and what does the server log say \
                         of idgen?",
                    )
            }
            Error::BlockTimeout(what) => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the counter got no block of values in time")
                    .detail(format!("No value was given out. It waited for {what}."))
                    .hint("Try again. If it goes on: is the synchronous standby there, and how long does a flush take?")
            }
            Error::RepairTimeout { has_begun } => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "this was not done in time")
                    .detail(if has_begun {
                        "It has begun, and may still be done: look at idgen_status() before it is asked for again."
                    } else {
                        "It was withdrawn, and will not be done."
                    })
                    .hint("Is the synchronous standby there, and what does the server log say of idgen?")
            }
            Error::NoOpaqueKey => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "there is no key for the opaque form of ids",
            )
            .hint(
                "Preload idgen, have idgen.opaque_key_file name a file with 16 to 56 bytes, such as the output of \"openssl rand \
                 -hex 16\", and reload. With another key the texts given out before cannot be read.",
            ),
            Error::OpaqueKeyFile(why) => Told::new(ERRCODE_CONFIG_FILE_ERROR, "the file with the key of the opaque form cannot be used")
                .detail(format!("Of the file, {why}."))
                .hint("It is the file that idgen.opaque_key_file names, below the data directory if that is no absolute path."),
            Error::NoRandomness => Told::new(ERRCODE_INTERNAL_ERROR, "could not generate random bits")
                .hint("PostgreSQL takes them from OpenSSL or /dev/urandom: see to it that they can be read."),

            // For a DBA to cure, on this server or on another: the authority, a member, a peer.
            Error::NoAuthority => {
                Told::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "there is no authority for these ids")
                    .hint("Set idgen.authority to a connection string, or make this server the authority: idgen.authority_database.")
            }
            Error::AuthorityTimeout => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the authority did not answer in time")
                    .detail("No id was given out.")
                    .hint("Try again. If it goes on, SELECT * FROM idgen_authority() says what is in the way.")
            }
            Error::AuthorityAway(why) => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the authority did not answer in time")
                    .detail(format!("No id was given out. It was last heard: {why}"))
                    .hint("Try again. If it goes on, SELECT * FROM idgen_authority() says what is in the way.")
            }
            Error::AuthorityRefused(why) => {
                Told::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the authority refuses to allocate")
                    .detail(format!("It says: {}", why.as_deref().unwrap_or("nothing")))
                    .hint(
                        "Make the generator on the authority too, with the same definition, and GRANT USAGE on its sequence to the role of \
                         this server; SELECT * FROM idgen_authority() shows the connection.",
                    )
            }
            Error::NoGrant => Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the authority has granted no machine id yet")
                .detail("No id was given out.")
                .hint("Try again. If it goes on, SELECT * FROM idgen_authority() says what is in the way."),
            Error::CounterWithGrant => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "a counter cannot use a machine id that an authority grants",
            )
            .detail("Another server may have it later, and would count the same.")
            .hint(
                "Make a generator with ordering => 'block', whose values come from the authority, or give the server an \
                 idgen.machine_id and restart it.",
            ),
            Error::GrantEnded => Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the grant of the machine id has ended")
                .detail("No id was given out. The authority could not be asked to renew it.")
                .hint("Try again. If it goes on, SELECT * FROM idgen_authority() says what is in the way."),
            Error::NotGranted => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the machine id of this server is not granted by an authority",
            )
            .hint("It is that of the setting idgen.machine_id."),
            Error::ReleaseTimeout => Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the machine id was not given back in time")
                .detail("If the authority was not told yet, that was called off, and the server goes on with it.")
                .hint("Try again. If it goes on, SELECT * FROM idgen_authority() says what is in the way."),
            Error::NoLease => Told::new(ERRCODE_CANNOT_CONNECT_NOW, "strict ids are not served now")
                .detail("After a start this takes up to three seconds; later it needs the synchronous standby.")
                .hint("Try again. If it goes on: is the synchronous standby there?"),
            Error::NotAnAuthority => {
                Told::new(ERRCODE_FEATURE_NOT_SUPPORTED, "this server is not an authority")
                    .hint("Set idgen.authority_database there, and nowhere else, to the database that members connect to, and restart it.")
            }
            Error::MemberAsAuthority => Told::new(
                ERRCODE_FEATURE_NOT_SUPPORTED,
                "this server has an authority, and grants no machine ids itself",
            )
            .hint("Give it a machine id by hand and take idgen.authority out, or ask its authority."),
            Error::OtherCluster => Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "this server is of another cluster")
                .hint("Servers that belong together have the same idgen.cluster."),
            Error::OtherDefinition(definition) => {
                Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "the authority has another definition of this generator")
                    .detail(format!("There it is {definition}."))
                    .hint("Make the generator with the same name and definition on both.")
            }
            Error::MemberClock { ahead } => {
                let (by, how) = (ahead.saturating_abs() / 1_000_000, if ahead < 0 { "behind" } else { "ahead of" });
                Told::new(
                    ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("the server's clock is {by} seconds {how} that of the authority"),
                )
                .hint("Set the machine's clock, or raise idgen.max_clock_offset on the authority.")
            }
            Error::MemberIds { ahead } => Told::new(
                ERRCODE_INVALID_PARAMETER_VALUE,
                format!("the server's ids are {} seconds ahead of the authority's clock", ahead / 1_000_000),
            )
            .hint("They come nearer by a tenth of the time that passes. Raise idgen.grant_length on the authority to more than that."),
            Error::NoMachineFree { after } => {
                Told::new(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "all machine ids are in use")
                    .detail(match after {
                        None => "All are reserved.".to_owned(),
                        Some(after) => {
                            format!("The first is free in {} seconds, if it is not renewed.", after / 1_000_000 + 1)
                        }
                    })
                    .hint("SELECT * FROM idgen_authority.grants() shows who holds them; idgen_release_machine() gives one back.")
            }
            Error::BookUnsettled { left } => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the authority grants no machine id yet, as its book may not know of all that are in use",
            )
            .detail(format!(
                "It was started, made or restored. It grants again in {} seconds; who holds a machine id goes on.",
                left / 1_000_000 + 1
            ))
            .hint(
                "If no server has a machine id that idgen_authority.grants() does not show, a superuser of the authority runs \
                 SELECT idgen_authority.confirm_book().",
            ),
            Error::BookTimeout => {
                Told::new(ERRCODE_CANNOT_CONNECT_NOW, "the authority's book was not written in time")
                    .detail("Its worker has no place, waits for a lock on the book, or for the synchronous standby.")
                    .hint("Try again. See max_worker_processes, synchronous_standby_names and the log of the authority.")
            }
            Error::Book(why) => Told::new(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "the book of grants cannot be used")
                .detail(why)
                .hint("It is the table idgen_authority.book."),
            Error::MachineTaken { by } => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "another server has the machine id of this one",
            )
            .detail(format!("It is {by}, and it goes on."))
            .hint(
                "Give one of them another idgen.machine_id and restart it; if this one is to go on, run SELECT \
                 idgen_take_over().",
            ),
            Error::NoPeers => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "this server has no peers",
            )
            .hint("Set idgen.peers to the connection strings of the other servers."),
            Error::NotAMessage(why) => Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "invalid message of another server")
                .detail(format!("In its text, {why}."))
                .hint("Only the workers of other servers call this."),
            Error::ObservedTooFarAhead => {
                Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "the id is too far ahead of the clock")
                    .hint("Is the clock of its server right, or idgen.max_clock_offset too small?")
            }

            // For the user to cure: another argument, another generator, or later.
            Error::Exhausted => {
                Told::new(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "the layout has no more timestamps").hint(
                    "If the server's clock is right, a layout with a later epoch or more timestamp bits is needed.",
                )
            }
            Error::CounterExhausted => {
                Told::new(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED, "the counter has no more values")
                    .hint("A generator with more counter bits, or a higher MAXVALUE of its sequence, is needed.")
            }
            Error::LoanTooLong { due } => Told::new(
                ERRCODE_CANNOT_CONNECT_NOW,
                "ids are taken faster than the layout has them",
            )
            .detail(format!("No id was given out. The next one is due at {}.", moment(due)))
            .hint("Try again then, or use a layout with more sequence bits."),
            Error::NotACounter => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the sequence was altered and cannot be a counter any more",
            )
            .hint("A counter needs INCREMENT 1, NO CYCLE, LOGGED and a value of 1 or more: see ALTER SEQUENCE."),
            Error::SetToAnId { id, count } => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the counter's sequence was set to an id, not to a count",
            )
            .detail(format!("It stands at {id}, which is the id of the count {count}."))
            .hint(format!(
                "setval() to the highest count, {count} if that was the highest id, goes on after it; if {id} is meant as \
                 a count, set it one higher."
            )),
            Error::NotAGenerator(what) => Told::new(ERRCODE_WRONG_OBJECT_TYPE, format!("\"{what}\" is not a generator of idgen"))
                .hint("SELECT * FROM idgen_generators() lists them; idgen_create_generator() makes one."),
            Error::NotASequence => {
                Told::new(ERRCODE_WRONG_OBJECT_TYPE, "only a permanent sequence can be a generator")
                    .hint("idgen_create_generator() makes one.")
            }
            Error::BadDefinition(reason) => {
                Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "invalid definition of a generator")
                    .detail(format!("In its text, {reason}."))
                    .hint("A valid one is timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000.")
            }
            Error::DefinitionStays => Told::new(
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the definition of a generator cannot be changed",
            )
            .detail("Its ids could come again.")
            .hint("Make a new generator."),
            Error::OrderOfSuperusers => Told::new(
                ERRCODE_INSUFFICIENT_PRIVILEGE,
                "only superusers can make generators of order strict or block",
            )
            .detail("Their ids come from the authority, under the name of the generator and with what this server may take there.")
            .hint("Have a superuser make it; it can then belong to anyone."),
            Error::NoTime => Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "the ids of a counter tell no time")
                .hint("Only generators with a timestamp have one."),
            Error::NegativeId => Told::new(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "an id cannot be negative")
                .hint("Only numbers that idgen gave out can be decoded."),
            Error::IdTooLarge { max } => {
                Told::new(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "no id of this layout is so large")
                    .detail(format!("The largest is {max}."))
                    .hint("Decode an id with the generator that gave it out.")
            }
            Error::NegativeCount => {
                Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "the number of ids cannot be negative")
                    .hint("Ask for 0 or more.")
            }
            Error::OutsideLayout(layout) => {
                Told::new(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "no id of this layout has that time")
                    .detail(format!(
                        "Its ids begin at {} and end at {}.",
                        moment(layout.epoch()),
                        i64::try_from(layout.end()).map_or("a time that no date can express".to_owned(), moment)
                    ))
                    .hint("Give a time between these dates.")
            }
            Error::NotAText(text) => {
                Told::new(ERRCODE_INVALID_TEXT_REPRESENTATION, format!("invalid text of an id: \"{text}\""))
                    .detail("It has 13 of the digits and letters without I, L, O and U, and begins with 0 to 7.")
                    .hint("idgen_to_text() makes it; small letters, and hyphens anywhere, are read as well.")
            }
            Error::NoIdInUuid => Told::new(ERRCODE_INVALID_PARAMETER_VALUE, "this UUID holds no id")
                .hint("Only what idgen_to_uuid() made can be turned back; idgen_next_uuid() makes UUIDs of their own."),
            Error::NotOpaque(text) => {
                Told::new(ERRCODE_INVALID_TEXT_REPRESENTATION, format!("invalid opaque form of an id: \"{text}\""))
                    .hint("It is mistyped, or was made with another key.")
            }
        }
    }
}

/// Text from outside, for an error message or a comparison; a long one is cut.
pub fn beginning(text: &[u8]) -> String {
    const MOST: usize = 200;
    let beginning = String::from_utf8_lossy(&text[..text.len().min(MOST)]).into_owned();
    if text.len() > MOST { beginning + "..." } else { beginning }
}

/// A time in microseconds since 1970 as it is written in UTC, to the millisecond.
pub fn moment(at: Micros) -> String {
    let (days, rest) = (at.div_euclid(86_400_000_000), at.rem_euclid(86_400_000_000) / 1000);
    // Years that begin in March, in eras of 400: see Howard Hinnant, "chrono-compatible low-level date algorithms".
    let (era, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (year, day) = (year + era * 400 + i64::from(month >= 10), day - (153 * month + 2) / 5 + 1);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03} UTC")
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_moment_is_written_as_the_calendar_has_it() {
        for (at, text) in [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (-1000, "1969-12-31 23:59:59.999 UTC"),
            (1_709_164_800_000_000, "2024-02-29 00:00:00.000 UTC"),
            (1_798_761_599_999_000, "2026-12-31 23:59:59.999 UTC"),
            (4_107_542_400_000_000, "2100-03-01 00:00:00.000 UTC"),
        ] {
            assert_eq!(moment(at), text);
        }
    }
}
