//! PostgreSQL's `tsvector` as the bytes it is stored in.
//!
//! Layout (src/include/tsearch/ts_type.h), after the varlena header: `int32 size`, then `size`
//! entries of 32 bits (1 bit: has positions; 11 bits: bytes of the lexeme; 20 bits: its offset in
//! what follows), then the lexemes in the order of their bytes, each followed, if it has positions,
//! by `uint16 count` and `count` positions of 16 bits, aligned to two bytes.

const ENTRY_BYTES: usize = 4;

/// A `tsvector` without its varlena header. Bytes that are none give fewer lexemes, never a panic.
#[derive(Debug, Clone, Copy)]
pub struct TextVector<'a> {
    entries: &'a [u8],
    lexemes: &'a [u8],
}

/// One lexeme of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexemeEntry<'a> {
    /// Its bytes.
    pub lexeme: &'a [u8],
    /// How often it occurs, 1 where the vector has been stripped of positions. PostgreSQL keeps at
    /// most 255 positions of a lexeme.
    pub occurrences: u32,
}

impl<'a> TextVector<'a> {
    /// Reads the bytes that follow the varlena header; `None` when they are too few.
    pub fn new(bytes: &'a [u8]) -> Option<TextVector<'a>> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let entries = usize::try_from(i32::from_ne_bytes(*size)).ok()?.checked_mul(ENTRY_BYTES)?;
        let (entries, lexemes) = rest.split_at_checked(entries)?;
        Some(TextVector { entries, lexemes })
    }

    /// The number of different lexemes.
    pub fn lexeme_count(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// All lexemes, in the order of their bytes.
    pub fn lexemes(&self) -> impl Iterator<Item = LexemeEntry<'a>> + use<'a> {
        let vector = *self;
        (0..self.lexeme_count()).filter_map(move |index| vector.entry(index))
    }

    /// The length of the document: occurrences of all lexemes together.
    pub fn length(&self) -> u32 {
        self.lexemes().map(|entry| entry.occurrences).sum()
    }

    /// How often a lexeme occurs.
    pub fn occurrences(&self, lexeme: &[u8]) -> u32 {
        let (mut low, mut high) = (0, self.lexeme_count());
        while low < high {
            let middle = low.midpoint(high);
            let Some(entry) = self.entry(middle) else { return 0 };
            match entry.lexeme.cmp(lexeme) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return entry.occurrences,
            }
        }
        0
    }

    fn entry(&self, index: usize) -> Option<LexemeEntry<'a>> {
        let start = index * ENTRY_BYTES;
        let word = self.entries.get(start..start + ENTRY_BYTES)?;
        let word = u32::from_ne_bytes(word.try_into().ok()?);
        let (has_positions, bytes, offset) = unpack(word);
        let lexeme = self.lexemes.get(offset..offset + bytes)?;
        let occurrences = if has_positions {
            // The area begins four-byte aligned, so its own offsets tell the alignment.
            let count = (offset + bytes).next_multiple_of(2);
            let count = self.lexemes.get(count..count + 2)?;
            u32::from(u16::from_ne_bytes(count.try_into().ok()?))
        } else {
            1
        };
        Some(LexemeEntry { lexeme, occurrences })
    }
}

/// Bit fields are laid out from the least significant bit on little-endian machines, from the most
/// significant one on big-endian ones.
fn unpack(word: u32) -> (bool, usize, usize) {
    if cfg!(target_endian = "little") {
        (word & 1 == 1, (word >> 1 & 0x7FF) as usize, (word >> 12) as usize)
    } else {
        (word >> 31 == 1, (word >> 20 & 0x7FF) as usize, (word & 0xF_FFFF) as usize)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes that PostgreSQL would store, for lexemes with their occurrences.
    pub(crate) fn stored(lexemes: &std::collections::BTreeMap<String, u16>) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut area: Vec<u8> = Vec::new();
        for (lexeme, occurrences) in lexemes {
            let offset = area.len() as u32;
            entries.extend((offset << 12 | (lexeme.len() as u32) << 1 | 1).to_ne_bytes());
            area.extend(lexeme.as_bytes());
            area.resize(area.len().next_multiple_of(2), 0);
            area.extend(occurrences.to_ne_bytes());
            area.extend((0..*occurrences).flat_map(|position| (position + 1).to_ne_bytes()));
        }
        [(lexemes.len() as i32).to_ne_bytes().as_slice(), &entries, &area].concat()
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read(
            lexemes in prop::collection::btree_map("[a-zäöü]{1,12}", 1u16..9, 0..30),
            other in "[a-z]{1,4}",
        ) {
            let bytes = stored(&lexemes);
            let vector = TextVector::new(&bytes).expect("valid");
            prop_assert_eq!(vector.lexeme_count(), lexemes.len());
            prop_assert_eq!(vector.length(), lexemes.values().map(|count| u32::from(*count)).sum::<u32>());
            for (lexeme, occurrences) in &lexemes {
                prop_assert_eq!(vector.occurrences(lexeme.as_bytes()), u32::from(*occurrences));
            }
            let expected = lexemes.get(&other).map_or(0, |count| u32::from(*count));
            prop_assert_eq!(vector.occurrences(other.as_bytes()), expected);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 0i32..40) {
            let bytes = [size.to_ne_bytes().as_slice(), &bytes].concat();
            if let Some(vector) = TextVector::new(&bytes) {
                let _ = (vector.length(), vector.occurrences(b"a"));
            }
        }
    }
}
