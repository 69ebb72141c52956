//! Recursive length prefix: Ethereum's encoding of nested byte strings.
//!
//! Every value has exactly one encoding, and [`decode`] accepts nothing else: `encode(&decode(bytes)?)` is
//! `bytes` again. Decoding borrows from the input and allocates per item found, never per length announced,
//! so its memory is bounded by a constant times the size of the input.

use std::borrow::Cow;

use alloy_rlp::Header;

/// Most lists that may lie inside each other: `[]` has depth 1, `[[]]` depth 2.
pub const MAX_DEPTH: usize = 1024;

/// A byte string or a list of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A byte string; borrowed from the input after decoding.
    Bytes(Cow<'a, [u8]>),
    /// A list, possibly empty.
    List(Vec<Item<'a>>),
}

/// Why bytes are not RLP, or an item has no encoding. Offsets count bytes from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RlpError {
    /// A prefix announces more bytes than its list or the input holds; also the error of an empty input.
    #[error("the item at byte {offset} reaches beyond the end of its list or of the input")]
    TooShort {
        /// Where the item begins.
        offset: usize,
    },
    /// A byte below 0x80 has a length prefix, though it stands for itself.
    #[error("the item at byte {offset} is one byte below 0x80 and must be encoded as that byte alone")]
    SingleByte {
        /// Where the item begins.
        offset: usize,
    },
    /// A length has leading zeros, or is written in the long form though it is below 56.
    #[error("the length of the item at byte {offset} is not in its shortest form")]
    LongLength {
        /// Where the item begins.
        offset: usize,
    },
    /// Something follows the item.
    #[error("{count} bytes follow the item, which ends at byte {offset}")]
    Trailing {
        /// Where the item ends.
        offset: usize,
        /// How many bytes are left.
        count: usize,
    },
    /// More than [`MAX_DEPTH`] lists lie inside each other.
    #[error("lists lie more than {MAX_DEPTH} deep inside each other")]
    TooDeep,
}

/// Decode the one item that `input` encodes.
///
/// # Errors
/// [`RlpError`] unless `input` is the canonical encoding of exactly one item of depth at most [`MAX_DEPTH`].
pub fn decode(input: &[u8]) -> Result<Item<'_>, RlpError> {
    // The lists being read, outermost first, each with the offset at which its payload ends.
    let mut open: Vec<(Vec<Item<'_>>, usize)> = Vec::new();
    let mut offset = 0;
    loop {
        let limit = open.last().map_or(input.len(), |(_, end)| *end);
        let (header, start) = header_at(input, offset, limit)?;
        let end = start + header.payload_length;
        if header.list {
            if open.len() == MAX_DEPTH {
                return Err(RlpError::TooDeep);
            }
            if header.payload_length > 0 {
                open.push((Vec::new(), end));
                offset = start;
                continue;
            }
        }
        let mut item = match header.list {
            true => Item::List(Vec::new()),
            false => Item::Bytes(Cow::Borrowed(&input[start..end])),
        };
        offset = end;
        // The item may be the last of its list, which may be the last of the list around it, and so on.
        loop {
            let Some((mut items, end)) = open.pop() else {
                return match input.len() - offset {
                    0 => Ok(item),
                    count => Err(RlpError::Trailing { offset, count }),
                };
            };
            items.push(item);
            if offset < end {
                open.push((items, end));
                break;
            }
            item = Item::List(items);
        }
    }
}

/// The header of the item at `offset` and the offset of its payload, which ends at `limit` or before.
fn header_at(input: &[u8], offset: usize, limit: usize) -> Result<(Header, usize), RlpError> {
    use alloy_rlp::Error;
    let mut rest = &input[offset..limit];
    let header = Header::decode(&mut rest).map_err(|error| match error {
        Error::NonCanonicalSingleByte => RlpError::SingleByte { offset },
        Error::LeadingZero | Error::NonCanonicalSize => RlpError::LongLength { offset },
        _ => RlpError::TooShort { offset },
    })?;
    Ok((header, limit - rest.len()))
}

/// Encode `item`.
///
/// # Errors
/// [`RlpError::TooDeep`] where more than [`MAX_DEPTH`] lists lie inside each other.
pub fn encode(item: &Item<'_>) -> Result<Vec<u8>, RlpError> {
    let mut payloads = Vec::new();
    let size = measure(item, 0, &mut payloads)?;
    let mut output = Vec::with_capacity(size);
    write(item, &mut payloads.into_iter(), &mut output);
    Ok(output)
}

/// Size of the encoding of `item`; appends the payload lengths of all lists in the order that [`write`] meets them.
///
/// Measuring first keeps encoding linear: a list's header precedes its payload but depends on the payload's size.
fn measure(item: &Item<'_>, depth: usize, payloads: &mut Vec<usize>) -> Result<usize, RlpError> {
    match item {
        Item::Bytes(bytes) => Ok(alloy_rlp::Encodable::length(&**bytes)),
        Item::List(_) if depth == MAX_DEPTH => Err(RlpError::TooDeep),
        Item::List(items) => {
            let place = payloads.len();
            payloads.push(0);
            let mut payload_length = 0;
            for item in items {
                payload_length += measure(item, depth + 1, payloads)?;
            }
            payloads[place] = payload_length;
            Ok(alloy_rlp::length_of_length(payload_length) + payload_length)
        }
    }
}

/// Append the encoding of `item`, whose depth and list sizes [`measure`] has established.
fn write(item: &Item<'_>, payloads: &mut impl Iterator<Item = usize>, output: &mut Vec<u8>) {
    match item {
        Item::Bytes(bytes) => alloy_rlp::Encodable::encode(&**bytes, output),
        Item::List(items) => {
            let payload_length = payloads.next().expect("every list has been measured");
            Header { list: true, payload_length }.encode(output);
            for item in items {
                write(item, payloads, output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use proptest::prelude::*;

    fn bytes(data: &[u8]) -> Item<'_> {
        Item::Bytes(Cow::Borrowed(data))
    }

    fn nested(depth: usize) -> Item<'static> {
        (1..depth).fold(Item::List(vec![]), |inner, _| Item::List(vec![inner]))
    }

    #[test]
    fn known_encodings_go_both_ways() {
        let long = [0x61; 56];
        let cases: [(Item<'_>, String); 8] = [
            (bytes(b""), "80".into()),
            (bytes(b"\x00"), "00".into()),
            (bytes(b"\x7f"), "7f".into()),
            (bytes(b"\x80"), "8180".into()),
            (bytes(b"dog"), "83646f67".into()),
            (bytes(&long), format!("b838{}", hex::encode(long))),
            (Item::List(vec![]), "c0".into()),
            (
                Item::List(vec![
                    Item::List(vec![]),
                    Item::List(vec![Item::List(vec![])]),
                    Item::List(vec![Item::List(vec![]), Item::List(vec![Item::List(vec![])])]),
                ]),
                "c7c0c1c0c3c0c1c0".into(),
            ),
        ];
        for (item, encoded) in cases {
            let encoded = hex::decode(encoded).unwrap();
            assert_eq!(encode(&item).unwrap(), encoded);
            assert_eq!(decode(&encoded).unwrap(), item);
        }
    }

    #[test]
    fn every_departure_from_the_one_encoding_is_named() {
        let cases: [(&str, RlpError); 18] = [
            ("", RlpError::TooShort { offset: 0 }),
            ("81", RlpError::TooShort { offset: 0 }),
            ("83646f", RlpError::TooShort { offset: 0 }),
            ("b8", RlpError::TooShort { offset: 0 }),
            ("b838", RlpError::TooShort { offset: 0 }),
            ("c3c28080c0", RlpError::Trailing { offset: 4, count: 1 }),
            ("c3c38080", RlpError::TooShort { offset: 1 }),
            ("c283646f67", RlpError::TooShort { offset: 1 }),
            ("ffffffffffffffffff00", RlpError::TooShort { offset: 0 }),
            ("bf0f000000000000021111", RlpError::TooShort { offset: 0 }),
            ("8100", RlpError::SingleByte { offset: 0 }),
            ("c2817f", RlpError::SingleByte { offset: 1 }),
            ("b800", RlpError::LongLength { offset: 0 }),
            ("b801ff", RlpError::LongLength { offset: 0 }),
            ("b90040", RlpError::LongLength { offset: 0 }),
            ("f803112233", RlpError::LongLength { offset: 0 }),
            ("c180c1", RlpError::Trailing { offset: 2, count: 1 }),
            ("0000", RlpError::Trailing { offset: 1, count: 1 }),
        ];
        for (encoded, expected) in cases {
            assert_eq!(decode(&hex::decode(encoded).unwrap()), Err(expected), "{encoded}");
        }
    }

    #[test]
    fn depth_is_bounded_in_both_directions() {
        let deepest = encode(&nested(MAX_DEPTH)).unwrap();
        assert_eq!(decode(&deepest).unwrap(), nested(MAX_DEPTH));
        assert_eq!(encode(&nested(MAX_DEPTH + 1)), Err(RlpError::TooDeep));

        let mut deeper = Vec::new();
        Header { list: true, payload_length: deepest.len() }.encode(&mut deeper);
        deeper.extend_from_slice(&deepest);
        assert_eq!(decode(&deeper), Err(RlpError::TooDeep));
    }

    #[test]
    fn a_million_open_lists_end_in_an_error() {
        // Each list holds the rest of the input: the depth bound must end this, not the stack.
        let mut input = Vec::new();
        let mut size = 0_usize;
        let mut headers = Vec::new();
        while headers.len() < 1_000_000 {
            let mut header = Vec::new();
            Header { list: true, payload_length: size }.encode(&mut header);
            size += header.len();
            headers.push(header);
        }
        headers.iter().rev().for_each(|header| input.extend_from_slice(header));
        assert_eq!(decode(&input), Err(RlpError::TooDeep));
    }

    fn any_item() -> impl Strategy<Value = Item<'static>> {
        let leaf = proptest::collection::vec(any::<u8>(), 0..80).prop_map(|data| Item::Bytes(Cow::Owned(data)));
        leaf.prop_recursive(6, 128, 12, |inner| proptest::collection::vec(inner, 0..12).prop_map(Item::List))
    }

    /// Bytes that look like RLP more often than uniform ones: prefixes are frequent and lengths small.
    fn rlp_like() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![any::<u8>(), 0x80_u8..0x84, 0xb8_u8..0xba, 0xc0_u8..0xc6, 0xf8_u8..0xfa, 0_u8..4];
        proptest::collection::vec(byte, 0..64)
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(item in any_item()) {
            let encoded = encode(&item).unwrap();
            prop_assert_eq!(decode(&encoded).unwrap(), item);
        }

        #[test]
        fn what_decodes_is_the_one_encoding(input in rlp_like()) {
            if let Ok(item) = decode(&input) {
                prop_assert_eq!(encode(&item).unwrap(), input);
            }
        }
    }
}
