//! Ids as UUIDs of RFC 9562.
//!
//! ```text
//! version 8     tttttttt-tttt-8ttt-Vt00-00696467656e    the 64 bits of the id in order, and "idgen"
//! version 7     tttttttt-tttt-7sss-Mmmr-rrrrrrrrrrrr    milliseconds since 1970, sequence, machine id, random bits
//! ```
//!
//! V and M begin with the two bits of the variant. Both sort as the ids do, version 7 on each server.

use crate::mechanism::layout::SERVER;

pub type Bytes = [u8; 16];

/// Where the fields of every UUID begin, counted from the lowest bit.
const TIME: u32 = 80;
const VERSION: u32 = 76;
const RAND_A: u32 = 64;
const VARIANT: u32 = 62;

/// How many bits of rand_b version 7 has for the machine id; the rest is random.
const MACHINE_BITS: u32 = 10;
const RANDOM_BITS: u32 = VARIANT - MACHINE_BITS;

const _: () = assert!(SERVER.max_machine() < 1 << MACHINE_BITS);
const _: () = assert!(SERVER.sequence_of(u64::MAX) < 1 << (VERSION - RAND_A));
const _: () = assert!(SERVER.tick() == 1000);

/// The mark of a UUID that holds an id.
const TAG: u128 = 0x69_64_67_65_6e;

/// The UUID that holds this id, of any layout.
pub fn from_id(id: u64) -> Bytes {
    let id = u128::from(id);
    fields(8, id >> 16, id >> 4 & 0xfff, (id & 0xf) << 58 | TAG)
}

/// The id that [`from_id`] made this UUID of; None for any other UUID.
pub fn to_id(uuid: Bytes) -> Option<u64> {
    let bits = u128::from_be_bytes(uuid);
    let id = (bits >> TIME << 16 | (bits >> RAND_A & 0xfff) << 4 | bits >> 58 & 0xf) as u64;
    (id <= i64::MAX as u64 && from_id(id) == uuid).then_some(id)
}

/// The UUID of version 7 for an id that the server generator gave out for it. The id alone makes it unique and puts it
/// in order; the random bits, of which the lowest 52 are used, keep others from guessing it.
pub fn version_7(id: u64, random: u64) -> Bytes {
    let milliseconds = SERVER.tick_start(SERVER.stamp_of(id)) / 1000;
    let random = random % (1 << RANDOM_BITS);
    let rand_b = SERVER.machine_of(id) << RANDOM_BITS | random;
    fields(7, milliseconds as u128, SERVER.sequence_of(id).into(), rand_b.into())
}

fn fields(version: u128, time: u128, rand_a: u128, rand_b: u128) -> Bytes {
    (time << TIME | version << VERSION | rand_a << RAND_A | 0b10 << VARIANT | rand_b).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::uuid::{Uuid, Variant};
    use proptest::prelude::*;

    const ID: std::ops::RangeInclusive<u64> = 0..=i64::MAX as u64;

    #[test]
    fn known_ids_have_known_uuids() {
        for (id, text) in [
            (0, "00000000-0000-8000-8000-00696467656e"),
            (0x1234_5678_9abc_def7, "12345678-9abc-8def-9c00-00696467656e"),
            (i64::MAX as u64, "7fffffff-ffff-8fff-bc00-00696467656e"),
        ] {
            assert_eq!(Uuid::from_bytes(from_id(id)).to_string(), text);
        }
    }

    #[test]
    fn version_7_has_its_fields_where_the_rfc_has_them() {
        let id = SERVER.id(SERVER.stamp_at(1_760_000_000_123_000) + 0xabc, 0x2d5);
        let uuid = Uuid::from_bytes(version_7(id, u64::MAX));
        assert_eq!(uuid.to_string(), "0199c82c-c07b-7abc-ad5f-ffffffffffff");
    }

    #[test]
    fn a_uuid_from_elsewhere_holds_no_id() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "5c146b14-3c52-8afd-938a-375d0df1fbf6",
            "80000000-0000-8000-8000-00696467656e",
        ] {
            assert_eq!(to_id(Uuid::parse_str(text).unwrap().into_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_and_sorts_as_its_uuid(a in ID, b in ID) {
            let uuids = [a, b].map(from_id);
            prop_assert_eq!(to_id(uuids[0]), Some(a));
            prop_assert_eq!(a.cmp(&b), uuids[0].cmp(&uuids[1]));
            let read = Uuid::from_bytes(uuids[0]);
            prop_assert_eq!((read.get_version_num(), read.get_variant()), (8, Variant::RFC4122));
        }

        #[test]
        fn a_uuid_with_any_bit_flipped_is_another_id_or_none(id in ID, bit in 0..128usize) {
            let mut uuid = from_id(id);
            uuid[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(to_id(uuid), Some(id));
            if let Some(other) = to_id(uuid) {
                prop_assert_eq!(from_id(other), uuid);
            }
        }

        #[test]
        fn version_7_rises_with_the_ids_of_a_server_whatever_the_random_bits(
            stamp in 0..SERVER.stamps() - 1, step in 1..5000u64, machine in 0..=SERVER.max_machine(), random: [u64; 2]
        ) {
            let later = (stamp + step).min(SERVER.stamps() - 1);
            prop_assert!(version_7(SERVER.id(stamp, machine), random[0]) < version_7(SERVER.id(later, machine), random[1]));
        }

        #[test]
        fn version_7_of_two_ids_is_never_the_same(a in ID, b in ID, random: u64) {
            prop_assert_eq!(a == b, version_7(a, random) == version_7(b, random));
        }

        #[test]
        fn any_reader_finds_the_time_in_version_7(id in ID, random: u64) {
            let read = Uuid::from_bytes(version_7(id, random));
            prop_assert_eq!((read.get_version_num(), read.get_variant()), (7, Variant::RFC4122));
            let (seconds, nanoseconds) = read.get_timestamp().unwrap().to_unix();
            let micros = seconds as i64 * 1_000_000 + i64::from(nanoseconds) / 1000;
            prop_assert_eq!(Some(micros), SERVER.timestamp_of(id));
        }
    }
}
