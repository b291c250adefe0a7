//! Texts that do not show when an id was made and how many there are. The id is encrypted as one block of Blowfish, a
//! widely known cipher with blocks of 64 bits, and written as [`text`]. Whoever has the key can read it with any Blowfish.
//!
//! This hides an id, and does not protect it: there is no authentication, one id always has one text, and everybody who may
//! call the SQL functions can translate both ways.

use super::text;
use blowfish::{
    Blowfish,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use std::ops::RangeInclusive;

/// The length of a key in bytes: at least 128 bits, since a shorter one can be searched for; at most what Blowfish takes.
pub const KEY_LENGTHS: RangeInclusive<usize> = 16..=56;

/// A key, expanded for use.
pub struct Opaque(Blowfish);

impl Opaque {
    /// None if the key has the wrong length. Takes some 50 microseconds: to be kept.
    pub fn new(key: &[u8]) -> Option<Self> {
        if !KEY_LENGTHS.contains(&key.len()) {
            return None;
        }
        Blowfish::new_from_slice(key).ok().map(Opaque)
    }

    pub fn to_text(&self, id: u64) -> String {
        text::to_text(self.encrypt(id))
    }

    /// The id in a text, read as leniently as [`text::from_text`] does. About half of the texts that were not made with
    /// this key hold none.
    pub fn from_text(&self, text: &[u8]) -> Option<u64> {
        text::from_text(text).map(|block| self.decrypt(block)).filter(|id| *id <= i64::MAX as u64)
    }

    fn encrypt(&self, id: u64) -> u64 {
        let mut block = id.to_be_bytes().into();
        self.0.encrypt_block(&mut block);
        u64::from_be_bytes(block.into())
    }

    fn decrypt(&self, block: u64) -> u64 {
        let mut block = block.to_be_bytes().into();
        self.0.decrypt_block(&mut block);
        u64::from_be_bytes(block.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the test vectors that Blowfish was published with, by Eric Young.
    #[test]
    fn it_is_blowfish() {
        let key = 0xF0E1D2C3B4A5968778695A4B3C2D1E0F_u128.to_be_bytes();
        let opaque = Opaque::new(&key).unwrap();
        assert_eq!(opaque.encrypt(0xFEDCBA9876543210), 0x93142887EE3BE15C);
        assert_eq!(opaque.decrypt(0x93142887EE3BE15C), 0xFEDCBA9876543210);
    }

    #[test]
    fn a_key_has_16_to_56_bytes() {
        for (length, good) in [(0, false), (15, false), (16, true), (56, true), (57, false)] {
            assert_eq!(Opaque::new(&vec![7; length]).is_some(), good, "{length}");
        }
    }

    #[test]
    fn the_texts_of_ids_in_a_row_show_no_order_and_no_common_beginning() {
        let opaque = Opaque::new(b"a key for a test").unwrap();
        let texts: Vec<String> = (1 << 50..(1 << 50) + 1000).map(|id| opaque.to_text(id)).collect();
        let rising = texts.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&rising), "{rising} of 999");
        for first in "0123456789ABCDEF".chars() {
            let count = texts.iter().filter(|text| text.starts_with(first)).count();
            assert!((30..100).contains(&count), "{count} of 1000 begin with {first}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_with_its_key_only(id in 0..=i64::MAX as u64, key: [u8; 16], other: [u8; 16]) {
            let opaque = Opaque::new(&key).unwrap();
            let text = opaque.to_text(id);
            prop_assert_eq!(opaque.from_text(text.to_lowercase().as_bytes()), Some(id));
            prop_assert_ne!(Opaque::new(&other).unwrap().from_text(text.as_bytes()), Some(id));
        }

        #[test]
        fn every_text_that_is_read_is_the_one_that_its_id_has(text in "[0-9A-F][0-9A-HJKMNP-TV-Z]{12}") {
            let opaque = Opaque::new(b"a key for a test").unwrap();
            if let Some(id) = opaque.from_text(text.as_bytes()) {
                prop_assert_eq!(opaque.to_text(id), text);
            }
        }
    }
}
