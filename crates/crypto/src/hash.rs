//! The two hashes of the protocol: Keccak-256 where Ethereum fixes it, BLAKE3 everywhere else.

use alloy_primitives::B256;

/// Keccak-256 of `data`, as Ethereum uses it (the original padding, not FIPS 202 SHA3-256).
#[must_use]
pub fn keccak256(data: &[u8]) -> B256 {
    alloy_primitives::keccak256(data)
}

/// BLAKE3 of `data` with its default 32-byte output, on the calling thread.
#[must_use]
pub fn blake3(data: &[u8]) -> B256 {
    B256::new(*::blake3::hash(data).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn keccak256_has_the_published_values() {
        assert_eq!(keccak256(b""), b256!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"));
        assert_eq!(keccak256(b"abc"), b256!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"));
    }

    #[test]
    fn blake3_has_the_published_values() {
        assert_eq!(blake3(b""), b256!("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"));
        // The official vectors hash the byte sequence 0, 1, .., 250, 0, 1, ..; 1025 bytes is the first input of two chunks.
        let input: Vec<u8> = (0..1025_u32).map(|index| (index % 251) as u8).collect();
        assert_eq!(blake3(&input), b256!("d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"));
    }
}
