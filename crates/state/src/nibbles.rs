//! Half-byte views of packed bytes, and the hex-prefix encoding of paths.

/// Nibbles `start..end` of packed bytes: a key's suffix or a stored path, without unpacking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nibbles<'a> {
    bytes: &'a [u8],
    start: usize,
    end: usize,
}

/// Nibble `index` of packed bytes.
#[inline]
pub(crate) fn nibble(bytes: &[u8], index: usize) -> u8 {
    let byte = bytes[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

/// For every nibble a byte that holds it, so that a single one can be viewed as [`Nibbles`].
const SINGLE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl<'a> Nibbles<'a> {
    pub(crate) const EMPTY: Self = Self { bytes: &[], start: 0, end: 0 };

    /// The nibbles of `key` from `depth` on.
    pub(crate) fn suffix(key: &'a [u8], depth: usize) -> Self {
        Self { bytes: key, start: depth.min(key.len() * 2), end: key.len() * 2 }
    }

    /// One nibble.
    pub(crate) fn single(nibble: u8) -> Nibbles<'static> {
        let at = usize::from(nibble & 15);
        Nibbles { bytes: &SINGLE[at..=at], start: 1, end: 2 }
    }

    /// The path inside a hex-prefix encoding, and whether it says leaf. `None` if it is not one.
    pub(crate) fn from_hex_prefix(bytes: &'a [u8]) -> Option<(Self, bool)> {
        let flag = bytes.first()? >> 4;
        let start = match flag {
            0 | 2 if bytes[0] & 15 == 0 => 2,
            1 | 3 => 1,
            _ => return None,
        };
        Some((Self { bytes, start, end: bytes.len() * 2 }, flag >= 2))
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn at(&self, index: usize) -> u8 {
        nibble(self.bytes, self.start + index)
    }

    pub(crate) fn skip(self, count: usize) -> Self {
        Self { start: (self.start + count).min(self.end), ..self }
    }

    pub(crate) fn take(self, count: usize) -> Self {
        Self { end: (self.start + count).min(self.end), ..self }
    }

    /// Number of leading nibbles that both share.
    pub(crate) fn common(&self, other: &Nibbles<'_>) -> usize {
        let most = self.len().min(other.len());
        (0..most).find(|&index| self.at(index) != other.at(index)).unwrap_or(most)
    }

    pub(crate) fn starts_with(&self, other: &Nibbles<'_>) -> bool {
        self.common(other) == other.len()
    }

    pub(crate) fn equals(&self, other: &Nibbles<'_>) -> bool {
        self.len() == other.len() && self.starts_with(other)
    }

    /// Append to `out` one byte per nibble.
    pub(crate) fn unpack_into(&self, out: &mut Vec<u8>) {
        out.extend((0..self.len()).map(|index| self.at(index)));
    }
}

/// Bytes that the hex-prefix encoding of a path of `nibbles` nibbles takes.
pub(crate) fn hex_prefix_len(nibbles: usize) -> usize {
    1 + nibbles / 2
}

/// Append the hex-prefix encoding of `head` followed by `tail`.
pub(crate) fn push_hex_prefix(out: &mut Vec<u8>, leaf: bool, head: Nibbles<'_>, tail: Nibbles<'_>) {
    let length = head.len() + tail.len();
    let odd = length % 2 == 1;
    let flag = u8::from(leaf) << 5 | u8::from(odd) << 4;
    let aligned = (head.start + usize::from(odd)).is_multiple_of(2) && head.end.is_multiple_of(2);
    if tail.is_empty() && aligned {
        out.push(if odd { flag | head.at(0) } else { flag });
        out.extend_from_slice(&head.bytes[head.start.div_ceil(2)..head.end / 2]);
        return;
    }
    let at = |index: usize| {
        if index < head.len() { head.at(index) } else { tail.at(index - head.len()) }
    };
    out.push(if odd { flag | at(0) } else { flag });
    let mut index = usize::from(odd);
    while index < length {
        out.push(at(index) << 4 | at(index + 1));
        index += 2;
    }
}

/// Pack an even number of nibbles.
pub(crate) fn pack(nibbles: &[u8]) -> Vec<u8> {
    nibbles.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(leaf: bool, head: Nibbles<'_>, tail: Nibbles<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        push_hex_prefix(&mut out, leaf, head, tail);
        assert_eq!(out.len(), hex_prefix_len(head.len() + tail.len()));
        out
    }

    #[test]
    fn hex_prefix_as_in_the_yellow_paper() {
        let key = [0x01, 0x23, 0x45];
        assert_eq!(encode(false, Nibbles::suffix(&key, 1), Nibbles::EMPTY), [0x11, 0x23, 0x45]);
        assert_eq!(encode(false, Nibbles::suffix(&key, 0), Nibbles::EMPTY), [0x00, 0x01, 0x23, 0x45]);
        assert_eq!(encode(true, Nibbles::suffix(&key, 1), Nibbles::EMPTY), [0x31, 0x23, 0x45]);
        assert_eq!(encode(true, Nibbles::suffix(&key, 2), Nibbles::EMPTY), [0x20, 0x23, 0x45]);
        assert_eq!(encode(true, Nibbles::suffix(&key, 6), Nibbles::EMPTY), [0x20]);
    }

    #[test]
    fn every_split_of_a_path_encodes_the_same_and_reads_back() {
        let key = [0x9a, 0xbc, 0xde, 0xf1];
        for start in 0..=8 {
            for end in start..=8 {
                let whole = Nibbles::suffix(&key, start).take(end - start);
                let expected = encode(true, whole, Nibbles::EMPTY);
                for cut in 0..=whole.len() {
                    assert_eq!(encode(true, whole.take(cut), whole.skip(cut)), expected);
                }
                let (path, leaf) = Nibbles::from_hex_prefix(&expected).unwrap();
                assert!(leaf && path.equals(&whole));
            }
        }
        assert_eq!(encode(false, Nibbles::single(7), Nibbles::EMPTY), [0x17]);
    }

    #[test]
    fn bad_hex_prefixes_are_refused() {
        for bad in [&[][..], &[0x40], &[0x05], &[0x2f], &[0xff, 0x00]] {
            assert!(Nibbles::from_hex_prefix(bad).is_none(), "{bad:?}");
        }
    }
}
