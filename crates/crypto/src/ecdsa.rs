//! secp256k1 signatures from which the signer's address can be recovered: the signatures of accounts.
//!
//! A signature is 65 bytes `r ‖ s ‖ y_parity` with `y_parity` 0 or 1 and `s` in the lower half of the group's
//! order (EIP-2), so that each signed digest has one signature per nonce.

use std::fmt;

use alloy_primitives::{Address, B256};
use rayon::prelude::*;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

use crate::hash::keccak256;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 65;

/// Below this many signatures the hand-over to other threads costs more than it saves.
const LEAST_PARALLEL: usize = 4;

/// Why a key or a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EcdsaError {
    /// Not 32 bytes, or not between 1 and the group's order.
    #[error("a secp256k1 private key is 32 bytes of a number from 1 to the group order minus 1")]
    PrivateKey,
    /// Not 65 bytes.
    #[error("a signature is {SIGNATURE_BYTES} bytes (r, s, y parity), not {0}")]
    Length(usize),
    /// The last byte is neither 0 nor 1.
    #[error("the last byte of a signature is its y parity, 0 or 1, not {0}")]
    Parity(u8),
    /// `s` is above half the group's order.
    #[error("s is above half the group order; replace it by the order minus s and flip the y parity")]
    HighS,
    /// No public key gives this signature for this digest.
    #[error("no public key has this signature for this digest")]
    Unrecoverable,
}

/// A secp256k1 private key. It is erased when dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct PrivateKey(SecretKey);

impl PrivateKey {
    /// The key with these 32 bytes.
    ///
    /// # Errors
    /// [`EcdsaError::PrivateKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EcdsaError> {
        SecretKey::from_slice(bytes).map(Self).map_err(|_| EcdsaError::PrivateKey)
    }

    /// Address of the account that this key controls.
    #[must_use]
    pub fn address(&self) -> Address {
        public_key_address(&self.0.public_key(SECP256K1))
    }

    /// Sign a digest with the nonce of RFC 6979: the same key and digest give the same signature.
    #[must_use]
    pub fn sign(&self, digest: &B256) -> [u8; SIGNATURE_BYTES] {
        let signature = SECP256K1.sign_ecdsa_recoverable(&Message::from_digest(digest.0), &self.0);
        // libsecp256k1 returns a low s. A recovery id of 2 or 3 means an x coordinate above the group's order;
        // its probability is 2^-128.
        let (parity, compact) = signature.serialize_compact();
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = u8::from(parity == RecoveryId::One);
        bytes
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PrivateKey").field(&self.address()).finish()
    }
}

/// Address of the account whose key signed `digest`.
///
/// # Errors
/// [`EcdsaError`] where the signature is malformed, malleable (high `s`) or belongs to no key.
pub fn recover_address(digest: &B256, signature: &[u8]) -> Result<Address, EcdsaError> {
    let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| EcdsaError::Length(signature.len()))?;
    let parity = match signature[64] {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        other => return Err(EcdsaError::Parity(other)),
    };
    let recoverable =
        RecoverableSignature::from_compact(&signature[..64], parity).map_err(|_| EcdsaError::Unrecoverable)?;
    let standard = recoverable.to_standard();
    let mut normal = standard;
    normal.normalize_s();
    if normal != standard {
        return Err(EcdsaError::HighS);
    }
    SECP256K1
        .recover_ecdsa(&Message::from_digest(digest.0), &recoverable)
        .map(|key| public_key_address(&key))
        .map_err(|_| EcdsaError::Unrecoverable)
}

/// [`recover_address`] of many (digest, signature) pairs on all cores; results stand in the order of the input.
#[must_use]
pub fn recover_addresses<S: AsRef<[u8]> + Sync>(signed: &[(B256, S)]) -> Vec<Result<Address, EcdsaError>> {
    signed
        .par_iter()
        .with_min_len(LEAST_PARALLEL)
        .map(|(digest, signature)| recover_address(digest, signature.as_ref()))
        .collect()
}

/// The last 20 bytes of the Keccak-256 of the uncompressed point without its format byte.
fn public_key_address(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{U256, address, b256, hex, uint};

    const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

    /// The first account of the mnemonic "test test … junk" that development chains share.
    fn key() -> PrivateKey {
        PrivateKey::from_bytes(&hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")).unwrap()
    }

    #[test]
    fn known_keys_have_their_known_addresses() {
        assert_eq!(key().address(), address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"));
        let one = PrivateKey::from_bytes(&U256::from(1).to_be_bytes::<32>()).unwrap();
        assert_eq!(one.address(), address!("7e5f4552091a69125d5dfcb7b8c2659029395bdf"));
    }

    #[test]
    fn signing_is_the_published_rfc_6979_signature() {
        // EIP-155's example: digest, key and signature are stated there.
        let key = PrivateKey::from_bytes(&[0x46; 32]).unwrap();
        let digest = b256!("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53");
        let expected = hex!(
            "28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276"
            "67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83" "00"
        );
        assert_eq!(key.sign(&digest), expected);
        assert_eq!(recover_address(&digest, &expected).unwrap(), key.address());
    }

    #[test]
    fn private_keys_outside_the_group_are_refused() {
        let order = ORDER.to_be_bytes::<32>();
        for bad in [&[0; 32][..], &order, &[0xff; 32], &[1; 31], &[1; 33], &[]] {
            assert_eq!(PrivateKey::from_bytes(bad).err(), Some(EcdsaError::PrivateKey), "{bad:?}");
        }
        assert!(PrivateKey::from_bytes(&(ORDER - U256::from(1)).to_be_bytes::<32>()).is_ok());
    }

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", key()).to_lowercase();
        assert!(shown.contains("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"), "{shown}");
        assert!(!shown.contains("ac0974be"), "{shown}");
    }

    #[test]
    fn malformed_signatures_are_named() {
        let digest = keccak256(b"digest");
        let good = key().sign(&digest);
        assert_eq!(recover_address(&digest, &good[..64]), Err(EcdsaError::Length(64)));
        let parity = |value| [&good[..64], &[value]].concat();
        assert_eq!(recover_address(&digest, &parity(2)), Err(EcdsaError::Parity(2)));
        assert_eq!(recover_address(&digest, &parity(27)), Err(EcdsaError::Parity(27)));
        assert_eq!(recover_address(&digest, &[0; 65]), Err(EcdsaError::Unrecoverable));
        assert_eq!(recover_address(&digest, &[&[0xff; 64][..], &[0]].concat()), Err(EcdsaError::Unrecoverable));

        let s = U256::from_be_slice(&good[32..64]);
        let mirrored = [&good[..32], &(ORDER - s).to_be_bytes::<32>(), &[good[64] ^ 1]].concat();
        assert_eq!(recover_address(&digest, &mirrored), Err(EcdsaError::HighS));
    }

    #[test]
    fn a_batch_keeps_order_and_isolates_errors() {
        let signed: Vec<(B256, Vec<u8>)> = (1..=40_u8)
            .map(|number| {
                let digest = keccak256(&[number]);
                let mut signature = PrivateKey::from_bytes(&[number; 32]).unwrap().sign(&digest).to_vec();
                if number % 10 == 0 {
                    signature[64] = 9;
                }
                (digest, signature)
            })
            .collect();
        let recovered = recover_addresses(&signed);
        assert_eq!(recovered.len(), signed.len());
        for (number, result) in (1..=40_u8).zip(recovered) {
            let expected = match number % 10 {
                0 => Err(EcdsaError::Parity(9)),
                _ => Ok(PrivateKey::from_bytes(&[number; 32]).unwrap().address()),
            };
            assert_eq!(result, expected);
        }
    }
}
