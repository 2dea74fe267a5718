//! jsonb objects with known keys, written in PostgreSQL's own binary form.
//!
//! The form (PostgreSQL, src/include/utils/jsonb.h): a varlena header; a container of a number of
//! members, an entry of 32 bits for each key and then for each value, and their bytes in that
//! order. Keys are sorted by length, then by bytes. An entry says the type and the length, every
//! 32nd the end instead; numbers and containers begin at multiples of four, and the bytes skipped
//! for that belong to them.

const OBJECT: u32 = 0x2000_0000;
const SCALAR: u32 = 0x1000_0000;

const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
const TYPE_MASK: u32 = 0x7000_0000;
const IS_END: u32 = 0x8000_0000;

/// The most bytes that keys and values may have together.
const MOST_BYTES: usize = 0x0FFF_FFFF;
/// Every so many entries one says where it ends.
const STRIDE: usize = 32;

/// The bytes before a value of variable length.
pub const VARLENA_HEADER: usize = 4;
const ENTRY: usize = 4;

/// What all objects with the same keys share.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The places of the keys as they were given, in the order in which values are written.
    pub order: Vec<usize>,
    /// The object up to its first value, with the entries of the values empty.
    head: Vec<u8>,
    key_bytes: usize,
}

impl Layout {
    /// The layout for different keys.
    pub fn new(keys: &[&[u8]]) -> Layout {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|place| (keys[*place].len(), keys[*place]));
        let mut head = vec![0; VARLENA_HEADER];
        head.extend((keys.len() as u32 | OBJECT).to_ne_bytes());
        let mut key_bytes = 0;
        for (number, place) in order.iter().enumerate() {
            key_bytes += keys[*place].len();
            head.extend(entry(STRING, number, keys[*place].len(), key_bytes).to_ne_bytes());
        }
        head.resize(head.len() + keys.len() * ENTRY, 0);
        order.iter().for_each(|place| head.extend(keys[*place]));
        Layout { order, head, key_bytes }
    }
}

/// The header of a value of so many bytes, itself included, as machines with the lowest byte first or
/// last keep it.
pub fn varlena_header(bytes: usize) -> [u8; VARLENA_HEADER] {
    let bytes = bytes as u32;
    let header = if cfg!(target_endian = "little") { bytes << 2 } else { bytes };
    header.to_ne_bytes()
}

fn entry(kind: u32, number: usize, length: usize, end: usize) -> u32 {
    if number.is_multiple_of(STRIDE) { kind | IS_END | end as u32 } else { kind | length as u32 }
}

/// An object that is being written at the end of a buffer, value by value.
pub struct Object<'a> {
    buffer: &'a mut Vec<u8>,
    members: usize,
    start: usize,
    written: usize,
    bytes: usize,
}

impl<'a> Object<'a> {
    /// Begins an object; the buffer's length must be a multiple of four.
    pub fn new(layout: &Layout, buffer: &'a mut Vec<u8>) -> Object<'a> {
        let start = buffer.len();
        buffer.extend_from_slice(&layout.head);
        Object { buffer, members: layout.order.len(), start, written: 0, bytes: layout.key_bytes }
    }

    /// Writes null.
    pub fn null(&mut self) {
        self.close(NULL, self.buffer.len());
    }

    /// Writes true or false.
    pub fn boolean(&mut self, value: bool) {
        self.close(if value { TRUE } else { FALSE }, self.buffer.len());
    }

    /// Writes a string, in the encoding of the database.
    pub fn string(&mut self, bytes: &[u8]) {
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        self.close(STRING, begin);
    }

    /// Writes an integer.
    pub fn integer(&mut self, value: i64) {
        let begin = self.align();
        push_numeric(self.buffer, value);
        self.close(NUMERIC, begin);
    }

    /// Writes a jsonb, given without its varlena header.
    pub fn json(&mut self, json: &[u8]) {
        let word = |place: usize| {
            json.get(place..place + ENTRY)
                .map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        // A scalar is kept as an array of one.
        let (kind, bytes) = if word(0) & SCALAR == 0 {
            (CONTAINER, json)
        } else {
            (word(ENTRY) & TYPE_MASK, json.get(2 * ENTRY..).unwrap_or_default())
        };
        let is_aligned = matches!(kind, CONTAINER | NUMERIC);
        let begin = if is_aligned { self.align() } else { self.buffer.len() };
        self.buffer.extend_from_slice(bytes);
        self.close(kind, begin);
    }

    /// The object; `None` when it is larger than jsonb can be, or when values are missing.
    pub fn finish(self) -> Option<std::ops::Range<usize>> {
        if self.bytes > MOST_BYTES || self.written != self.members {
            return None;
        }
        let end = self.buffer.len();
        self.buffer[self.start..self.start + VARLENA_HEADER]
            .copy_from_slice(&varlena_header(end - self.start));
        Some(self.start..end)
    }

    /// Skips to a multiple of four; returns where it was.
    fn align(&mut self) -> usize {
        let begin = self.buffer.len();
        let length = (begin - self.start).next_multiple_of(ENTRY);
        self.buffer.resize(self.start + length, 0);
        begin
    }

    fn close(&mut self, kind: u32, begin: usize) {
        let length = self.buffer.len() - begin;
        self.bytes += length;
        let number = self.members + self.written;
        let place = self.start + VARLENA_HEADER + ENTRY + number * ENTRY;
        if self.written < self.members && self.bytes <= MOST_BYTES {
            let entry = entry(kind, number, length, self.bytes);
            self.buffer[place..place + ENTRY].copy_from_slice(&entry.to_ne_bytes());
        }
        self.written += 1;
    }
}

/// An integer as a `numeric` in its short form (PostgreSQL, numeric.c): a varlena header, 16 bits of
/// sign and weight, then digits to the base of 10,000 without zeros at the end.
fn push_numeric(buffer: &mut Vec<u8>, value: i64) {
    const BASE: u64 = 10_000;
    const SHORT: u16 = 0x8000;
    const NEGATIVE: u16 = 0x2000;
    let (mut rest, mut digits, mut count) = (value.unsigned_abs(), [0u16; 5], 0);
    while rest > 0 {
        digits[count] = (rest % BASE) as u16;
        rest /= BASE;
        count += 1;
    }
    let zeros = digits[..count].iter().take_while(|digit| **digit == 0).count();
    let weight = count.saturating_sub(1) as u16;
    let sign = if value < 0 { NEGATIVE } else { 0 };
    buffer.extend(varlena_header(VARLENA_HEADER + 2 + 2 * (count - zeros)));
    buffer.extend((SHORT | sign | weight).to_ne_bytes());
    for digit in digits[zeros..count].iter().rev() {
        buffer.extend(digit.to_ne_bytes());
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }

    #[test]
    fn an_object_is_what_postgresql_writes() {
        // {"b": true, "id": 12345, "no": null}
        let layout = Layout::new(&[b"no", b"id", b"b"]);
        assert_eq!(layout.order, [2, 1, 0]);
        let mut buffer = vec![0; 8];
        let mut object = Object::new(&layout, &mut buffer);
        object.boolean(true);
        object.integer(12_345);
        object.null();
        let range = object.finish().expect("small");
        assert_eq!(range.start, 8);
        let bytes = &buffer[range];
        // Three entries for keys, the first of which says where it ends, and three for values.
        let head = [(bytes.len() as u32) << 2, OBJECT | 3, IS_END | 1, 2, 2, TRUE, NUMERIC | 13, NULL];
        assert_eq!(words(&bytes[..32]), head);
        assert_eq!(&bytes[32..37], b"bidno");
        // 12345 = 1 · 10,000 + 2345, after three bytes to a multiple of four.
        assert_eq!(&bytes[40..50], [10 << 2, 0, 0, 0, 0x01, 0x80, 1, 0, 41, 9]);
        assert_eq!(bytes.len(), 50);
    }

    #[test]
    fn numbers_have_no_zeros_at_their_ends() {
        let digits = |value: i64| {
            let mut buffer = vec![];
            push_numeric(&mut buffer, value);
            let halves: Vec<u16> =
                buffer[4..].chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]])).collect();
            assert_eq!(words(&buffer[..4]), [(buffer.len() as u32) << 2]);
            halves
        };
        assert_eq!(digits(0), [0x8000]);
        assert_eq!(digits(-7), [0xA000, 7]);
        assert_eq!(digits(10_000), [0x8001, 1]);
        assert_eq!(digits(1_000_000), [0x8001, 100]);
        assert_eq!(digits(i64::MIN), [0xA004, 922, 3372, 368, 5477, 5808]);
    }

    #[test]
    fn every_thirty_second_entry_says_where_it_ends() {
        let names: Vec<String> = (10..50).map(|number| format!("k{number}")).collect();
        let layout = Layout::new(&names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
        let mut buffer = vec![];
        let mut object = Object::new(&layout, &mut buffer);
        (0..40).for_each(|_| object.string(b"ab"));
        let range = object.finish().expect("small");
        let entries = words(&buffer[range][8..8 + 80 * 4]);
        let ends: Vec<usize> = (0..80).filter(|place| entries[*place] & IS_END != 0).collect();
        assert_eq!(ends, [0, 32, 64]);
        assert_eq!(entries[64] & 0x0FFF_FFFF, 40 * 3 + 25 * 2);
    }

    #[test]
    fn scalars_are_taken_out_of_their_array() {
        let layout = Layout::new(&[b"a", b"b"]);
        let mut buffer = vec![];
        let mut object = Object::new(&layout, &mut buffer);
        let mut json = (0x4000_0000u32 | SCALAR | 1).to_le_bytes().to_vec();
        json.extend((STRING | IS_END | 2).to_le_bytes());
        json.extend(b"hi");
        object.json(&json);
        object.json(&OBJECT.to_le_bytes());
        let range = object.finish().expect("small");
        let bytes = &buffer[range];
        assert_eq!(words(&bytes[16..24]), [2, CONTAINER | 4]);
        assert_eq!(&bytes[26..28], b"hi");
    }

    #[test]
    fn an_object_without_all_its_values_is_none() {
        let mut buffer = vec![];
        assert_eq!(Object::new(&Layout::new(&[b"a"]), &mut buffer).finish(), None);
    }
}
