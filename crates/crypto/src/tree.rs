//! BLAKE3 is a tree: a long input can be checked piece by piece against nothing but its hash.
//!
//! The pieces are [`LEAF_BYTES`] long, except the last. Every piece has a value of 32 bytes; all values together give
//! the hash, so a list of them that does is the true one (or a coarser one, of inner nodes, which no piece fits).

use ::blake3::Hasher;
use ::blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// The length of a piece: 256 chunks of BLAKE3, so that each piece is a whole subtree.
pub const LEAF_BYTES: usize = 256 << 10;

/// A list of values, or a piece, that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A piece of no bytes, or too many.
    #[error("a piece has 1 to {LEAF_BYTES} bytes, not {0}")]
    Leaf(usize),
    /// No values, or a cut one.
    #[error("the values of the pieces are 32 bytes each and at least one, not {0} bytes")]
    Leaves(usize),
    /// A place beyond the longest input.
    #[error("there is no piece {0}")]
    Place(u64),
}

/// The value of the piece at a place, counted from 0. The only piece of a short input is the hash itself.
pub fn leaf(place: u64, data: &[u8], alone: bool) -> Result<[u8; 32], TreeError> {
    if alone && place == 0 && data.len() <= LEAF_BYTES {
        return Ok(*::blake3::hash(data).as_bytes());
    }
    if data.is_empty() || data.len() > LEAF_BYTES {
        return Err(TreeError::Leaf(data.len()));
    }
    if alone || place >= 1 << 44 {
        return Err(TreeError::Place(place));
    }
    Ok(Hasher::new().set_input_offset(place * LEAF_BYTES as u64).update(data).finalize_non_root())
}

/// The hash of the input whose pieces have these values.
pub fn root(leaves: &[u8]) -> Result<[u8; 32], TreeError> {
    let (values, rest) = leaves.as_chunks::<32>();
    match values {
        [] => Err(TreeError::Leaves(leaves.len())),
        _ if !rest.is_empty() => Err(TreeError::Leaves(leaves.len())),
        [alone] => Ok(*alone),
        _ => {
            let (left, right) = values.split_at(left_count(values.len()));
            Ok(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
        }
    }
}

fn subtree(values: &[[u8; 32]]) -> [u8; 32] {
    if let [value] = values {
        return *value;
    }
    let (left, right) = values.split_at(left_count(values.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The left subtree has the most pieces that are a power of two and leave at least one to the right.
fn left_count(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(input: &[u8]) -> Vec<u8> {
        let alone = input.len() <= LEAF_BYTES;
        if alone {
            return leaf(0, input, true).unwrap().to_vec();
        }
        let pieces = input.chunks(LEAF_BYTES).enumerate();
        pieces.flat_map(|(place, piece)| leaf(place as u64, piece, false).unwrap()).collect()
    }

    #[test]
    fn the_pieces_give_the_hash_of_the_whole() {
        let input: Vec<u8> = (0..LEAF_BYTES * 7 + 5).map(|index| (index % 251) as u8).collect();
        let whole = LEAF_BYTES;
        for length in
            [0, 1, 1024, whole - 1, whole, whole + 1, 2 * whole, 2 * whole + 1, 3 * whole, 5 * whole, input.len()]
        {
            let input = &input[..length];
            assert_eq!(root(&leaves(input)).unwrap(), *::blake3::hash(input).as_bytes(), "{length} bytes");
        }
    }

    #[test]
    fn any_change_of_a_piece_or_its_place_changes_the_hash() {
        let input: Vec<u8> = (0..LEAF_BYTES * 3).map(|index| (index % 251) as u8).collect();
        let values = leaves(&input);
        let (first, second) = (&input[..LEAF_BYTES], &input[LEAF_BYTES..2 * LEAF_BYTES]);
        assert_ne!(leaf(0, second, false), leaf(1, second, false));
        assert_ne!(leaf(0, first, false), leaf(0, &first[1..], false));
        let swapped = [&values[32..64], &values[..32], &values[64..]].concat();
        assert_ne!(root(&swapped), root(&values));
    }

    #[test]
    fn what_cannot_be_a_piece_is_named() {
        assert_eq!(leaf(1, &[], false), Err(TreeError::Leaf(0)));
        assert_eq!(leaf(0, &vec![0; LEAF_BYTES + 1], true), Err(TreeError::Leaf(LEAF_BYTES + 1)));
        assert_eq!(leaf(u64::MAX, &[1], false), Err(TreeError::Place(u64::MAX)));
        assert_eq!(leaf(1, &[1], true), Err(TreeError::Place(1)));
        for bad in [0, 31, 33] {
            assert_eq!(root(&vec![0; bad]), Err(TreeError::Leaves(bad)));
        }
    }
}
