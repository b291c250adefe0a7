//! Ids as text: Crockford's base32, <https://www.crockford.com/base32.html>, in 13 characters, so that the texts sort
//! as the ids do in every collation.

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 13;

/// The text of any 64-bit number; the text of an id begins with 0 to 7.
pub fn to_text(number: u64) -> String {
    (0..LENGTH).rev().map(|place| DIGITS[(number >> (5 * place)) as usize % 32] as char).collect()
}

/// The number in a text, read as Crockford says: in capitals or not, I and L as 1, O as 0, hyphens as nothing. All 13
/// characters must be there, because a text that was cut off would be another number.
pub fn from_text(text: &[u8]) -> Option<u64> {
    let (mut number, mut length) = (0u128, 0);
    for &character in text.iter().filter(|&&character| character != b'-') {
        let digit = match character.to_ascii_uppercase() {
            b'I' | b'L' => 1,
            b'O' => 0,
            other => DIGITS.iter().position(|&digit| digit == other)?,
        };
        length += 1;
        if length > LENGTH {
            return None;
        }
        number = number << 5 | digit as u128;
    }
    u64::try_from(number).ok().filter(|_| length == LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_numbers_have_known_texts() {
        for (number, text) in [
            (0, "0000000000000"),
            (31, "000000000000Z"),
            (32, "0000000000010"),
            (1234, "000000000016J"),
            (i64::MAX as u64, "7ZZZZZZZZZZZZ"),
            (u64::MAX, "FZZZZZZZZZZZZ"),
            // The ULID 01ARZ3NDEKTSV4RRFFQ69G5FAV is 01563E3AB5D3D6764C61EFB99302BD5B in hexadecimal.
            (0x4C61EFB99302BD5B, "4RRFFQ69G5FAV"),
        ] {
            assert_eq!(to_text(number), text);
            assert_eq!(from_text(text.as_bytes()), Some(number));
        }
    }

    #[test]
    fn a_text_is_read_as_it_was_heard_or_copied() {
        for text in ["4RRFFQ69G5FA1", "4rrffq69g5fa1", "4rrf-fq69-g5fa-l", "4RRFFQ69G5FAI", "-4RRFFQ69G5FAi-"] {
            assert_eq!(from_text(text.as_bytes()), from_text(b"4RRFFQ69G5FA1"), "{text}");
        }
        assert_eq!(from_text(b"OooOoOoOoOoO1"), Some(1));
    }

    #[test]
    fn what_is_not_the_text_of_a_64_bit_number_is_refused() {
        for text in [
            "",
            "-",
            "4RRFFQ69G5FA",
            "4RRFFQ69G5FAVV",
            "4RRFFQ69G5FAU",
            " 4RRFFQ69G5FAV",
            "GZZZZZZZZZZZZ",
            "4RRFFQ69G5Fé",
        ] {
            assert_eq!(from_text(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_read_back_and_sorts_as_its_number(a: u64, b: u64) {
            let texts = [a, b].map(to_text);
            prop_assert_eq!(from_text(texts[0].as_bytes()), Some(a));
            prop_assert_eq!(from_text(texts[0].to_lowercase().as_bytes()), Some(a));
            prop_assert_eq!(a.cmp(&b), texts[0].cmp(&texts[1]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "[0-9A-Za-z-]{13,15}") {
            from_text(&bytes);
            if let Some(number) = from_text(text.as_bytes()) {
                let plain = text.to_uppercase().replace('-', "").replace(['I', 'L'], "1").replace('O', "0");
                prop_assert_eq!(to_text(number), plain);
            }
        }
    }
}
