//! BLS signatures over BLS12-381 with public keys in G1 (48 bytes) and signatures in G2 (96 bytes).
//!
//! The scheme is the IETF draft's proof-of-possession ciphersuite, the one that Ethereum's consensus uses.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use blst::min_pk;
use blst::{BLST_ERROR, Pairing, blst_p1_affine, blst_p2_affine};

/// The ciphersuite, which is also the domain separation tag of hashing to G2.
pub const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Bytes of a secret key.
pub const SECRET_KEY_BYTES: usize = 32;
/// Bytes of a compressed public key.
pub const PUBLIC_KEY_BYTES: usize = 48;
/// Bytes of a compressed signature.
pub const SIGNATURE_BYTES: usize = 96;
/// Bytes of the random numbers that keep wrong signatures from making up for each other.
const RANDOM_BYTES: usize = 8;
/// Least bytes of seed that a secret key is made from.
pub const LEAST_SEED_BYTES: usize = 32;

/// Why a seed, a key or a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlsError {
    /// Fewer than [`LEAST_SEED_BYTES`] bytes.
    #[error("a BLS seed has at least {LEAST_SEED_BYTES} bytes, not {0}")]
    Seed(usize),
    /// Not 32 bytes, zero, or not below the group's order.
    #[error("a BLS secret key is {SECRET_KEY_BYTES} bytes of a number from 1 to the group order minus 1")]
    SecretKey,
    /// Not the compressed form of a point of G1's subgroup, or the point at infinity.
    #[error("a BLS public key is {PUBLIC_KEY_BYTES} bytes of a compressed point of the G1 subgroup, not infinity")]
    PublicKey,
    /// Not the compressed form of a point of G2's subgroup, or the point at infinity.
    #[error("a BLS signature is {SIGNATURE_BYTES} bytes of a compressed point of the G2 subgroup, not infinity")]
    Signature,
    /// Key and signature are well-formed, but the key did not sign this message.
    #[error("the signature is not this key's for this message")]
    Mismatch,
    /// No signature or key at all where at least one is needed.
    #[error("at least one BLS signature or key is needed")]
    Nothing,
}

/// A BLS secret key. It is erased when dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct SecretKey(min_pk::SecretKey);

impl SecretKey {
    /// The key that the draft's `KeyGen` (also EIP-2333's master key) derives from a secret `seed`.
    ///
    /// # Errors
    /// [`BlsError::Seed`] where the seed is too short.
    pub fn from_seed(seed: &[u8]) -> Result<Self, BlsError> {
        min_pk::SecretKey::key_gen(seed, &[]).map(Self).map_err(|_| BlsError::Seed(seed.len()))
    }

    /// The key with these 32 bytes, most significant first.
    ///
    /// # Errors
    /// [`BlsError::SecretKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlsError> {
        min_pk::SecretKey::from_bytes(bytes).map(Self).map_err(|_| BlsError::SecretKey)
    }

    /// The key as 32 bytes, most significant first. The caller takes over the duty to keep them secret.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SECRET_KEY_BYTES] {
        self.0.to_bytes()
    }

    /// The public key, compressed.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.sk_to_pk().compress()
    }

    /// Sign `message` of any length; the same key and message give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message, CIPHERSUITE, &[]).compress()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(..)")
    }
}

/// Check that the owner of `public_key` signed `message`. Key and signature may come from anywhere: form,
/// subgroup and infinity are checked.
///
/// # Errors
/// [`BlsError::PublicKey`], [`BlsError::Signature`] or [`BlsError::Mismatch`].
pub fn verify(public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BlsError> {
    verify_points(&decode_public_key(public_key)?, message, &decode_signature(signature)?)
}

/// Add signatures up. They may come from anywhere: form, subgroup and infinity are checked.
///
/// # Errors
/// [`BlsError::Nothing`] or [`BlsError::Signature`].
pub fn aggregate(signatures: &[impl AsRef<[u8]>]) -> Result<[u8; SIGNATURE_BYTES], BlsError> {
    let points: Vec<_> = signatures.iter().map(|bytes| decode_signature(bytes.as_ref())).collect::<Result<_, _>>()?;
    let references: Vec<_> = points.iter().collect();
    let sum = min_pk::AggregateSignature::aggregate(&references, false).map_err(|_| BlsError::Nothing)?;
    Ok(sum.to_signature().compress())
}

/// Check that the owners of all `public_keys` signed `message`, from the sum of their signatures. Sound only for keys
/// whose owners have proven possession. Keys and signature may come from anywhere.
///
/// # Errors
/// [`BlsError::Nothing`], [`BlsError::PublicKey`], [`BlsError::Signature`] or [`BlsError::Mismatch`].
pub fn verify_aggregate(public_keys: &[impl AsRef<[u8]>], message: &[u8], signature: &[u8]) -> Result<(), BlsError> {
    let signature = decode_signature(signature)?;
    let points: Vec<_> = public_keys.iter().map(|bytes| decode_public_key(bytes.as_ref())).collect::<Result<_, _>>()?;
    let references: Vec<_> = points.iter().collect();
    let sum = min_pk::AggregatePublicKey::aggregate(&references, false).map_err(|_| BlsError::Nothing)?.to_public_key();
    // Keys that cancel each other would verify the signature at infinity; nobody owns their sum.
    sum.validate().map_err(|_| BlsError::PublicKey)?;
    verify_points(&sum, message, &signature)
}

/// Check many signatures at once, each a key's own over a message of its own: about half the work of checking one after
/// the other. Says only whether all of them are right.
///
/// Each equation counts a random number of times, so that wrong signatures cannot make up for each other but with a
/// chance of 2^-64. `seed` must be secret until the signatures are fixed, and used once.
///
/// # Errors
/// [`BlsError::Nothing`], [`BlsError::PublicKey`], [`BlsError::Signature`] or [`BlsError::Mismatch`].
pub fn verify_many<B: AsRef<[u8]>>(signed: &[(B, B, B)], seed: &[u8; 32]) -> Result<(), BlsError> {
    if signed.is_empty() {
        return Err(BlsError::Nothing);
    }
    let mut keys: HashMap<&[u8], min_pk::PublicKey> = HashMap::new();
    let mut numbers = blake3::Hasher::new_keyed(seed).finalize_xof();
    let mut pairing = Pairing::new(true, CIPHERSUITE);
    for (public_key, message, signature) in signed {
        let key = match keys.entry(public_key.as_ref()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => *place.insert(decode_public_key(public_key.as_ref())?),
        };
        let signature = decode_signature(signature.as_ref())?;
        let key_point: &blst_p1_affine = (&key).into();
        let signature_point: &blst_p2_affine = (&signature).into();
        let mut number = [0; RANDOM_BYTES];
        numbers.fill(&mut number);
        // Zero would count an equation never.
        number[0] |= 1;
        let (bits, message) = (8 * RANDOM_BYTES, message.as_ref());
        let done = pairing.mul_n_aggregate(key_point, false, signature_point, false, &number, bits, message, &[]);
        if done != BLST_ERROR::BLST_SUCCESS {
            return Err(BlsError::Mismatch);
        }
    }
    pairing.commit();
    if pairing.finalverify(None) { Ok(()) } else { Err(BlsError::Mismatch) }
}

fn decode_public_key(bytes: &[u8]) -> Result<min_pk::PublicKey, BlsError> {
    // `uncompress` insists on the compressed form, where `from_bytes` would take the uncompressed one too.
    let public_key = min_pk::PublicKey::uncompress(bytes).map_err(|_| BlsError::PublicKey)?;
    public_key.validate().map_err(|_| BlsError::PublicKey)?;
    Ok(public_key)
}

fn decode_signature(bytes: &[u8]) -> Result<min_pk::Signature, BlsError> {
    let signature = min_pk::Signature::uncompress(bytes).map_err(|_| BlsError::Signature)?;
    signature.validate(true).map_err(|_| BlsError::Signature)?;
    Ok(signature)
}

/// Check points that are known to lie in their subgroups.
fn verify_points(
    public_key: &min_pk::PublicKey,
    message: &[u8],
    signature: &min_pk::Signature,
) -> Result<(), BlsError> {
    // One pairing check on this thread: `Signature::verify` would hand it to a thread pool and wait.
    let key_point: &blst_p1_affine = public_key.into();
    let signature_point: &blst_p2_affine = signature.into();
    let mut pairing = Pairing::new(true, CIPHERSUITE);
    let aggregated = pairing.aggregate(key_point, false, signature_point, false, message, &[]);
    pairing.commit();
    match aggregated == BLST_ERROR::BLST_SUCCESS && pairing.finalverify(None) {
        true => Ok(()),
        false => Err(BlsError::Mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{U256, hex, uint};

    const ORDER: U256 = uint!(0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001_U256);

    fn key() -> SecretKey {
        SecretKey::from_bytes(&hex!("263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")).unwrap()
    }

    /// The compressed point at infinity of either group.
    fn infinity(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[0] = 0xc0;
        bytes
    }

    #[test]
    fn seeds_give_the_master_keys_of_eip_2333() {
        let cases = [
            (
                hex::decode("c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04").unwrap(),
                uint!(6083874454709270928345386274498605044986640685124978867557563392430687146096_U256),
            ),
            (
                hex::decode("3141592653589793238462643383279502884197169399375105820974944592").unwrap(),
                uint!(29757020647961307431480504535336562678282505419141012933316116377660817309383_U256),
            ),
            (
                hex::decode("0099FF991111002299DD7744EE3355BBDD8844115566CC55663355668888CC00").unwrap(),
                uint!(27580842291869792442942448775674722299803720648445448686099262467207037398656_U256),
            ),
        ];
        for (seed, master) in cases {
            assert_eq!(SecretKey::from_seed(&seed).unwrap().to_bytes(), master.to_be_bytes::<32>());
        }
        assert_eq!(SecretKey::from_seed(&[7; 31]).err(), Some(BlsError::Seed(31)));
    }

    #[test]
    fn signatures_are_those_of_the_consensus_test_vectors() {
        assert_eq!(
            key().public_key(),
            hex!("a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a")
        );
        assert_eq!(
            key().sign(&[0x56; 32]),
            hex!(
                "882730e5d03f6b42c3abc26d3372625034e1d871b65a8a6b900a56dae22da98abbe1b68f85e49fe7652a55ec3d0591c2"
                "0767677e33e5cbb1207315c41a9ac03be39c2e7668edc043d6cb1d9fd93033caa8a1c5b0e84bedaeb6c64972503a43eb"
            )
        );
    }

    #[test]
    fn only_the_signer_and_the_message_verify() {
        for message in [&b""[..], b"message", &[0xab; 1000]] {
            let signature = key().sign(message);
            assert_eq!(verify(&key().public_key(), message, &signature), Ok(()));
            assert_eq!(verify(&key().public_key(), b"another", &signature), Err(BlsError::Mismatch));
            let stranger = SecretKey::from_seed(&[1; 32]).unwrap();
            assert_eq!(verify(&stranger.public_key(), message, &signature), Err(BlsError::Mismatch));
        }
    }

    #[test]
    fn secret_keys_outside_the_group_are_refused() {
        let order = ORDER.to_be_bytes::<32>();
        for bad in [&[0; 32][..], &order, &[0xff; 32], &[1; 31], &[1; 33], &[]] {
            assert_eq!(SecretKey::from_bytes(bad).err(), Some(BlsError::SecretKey), "{bad:?}");
        }
        assert!(SecretKey::from_bytes(&(ORDER - U256::from(1)).to_be_bytes::<32>()).is_ok());
    }

    #[test]
    fn infinity_and_malformed_points_are_refused() {
        let (public_key, message) = (key().public_key(), b"message");
        let signature = key().sign(message);
        let flipped = |bytes: &[u8], index: usize, bits: u8| {
            let mut copy = bytes.to_vec();
            copy[index] ^= bits;
            copy
        };
        // The last two lose the compression flag and gain the infinity flag.
        let bad_keys = [
            vec![],
            public_key[..47].to_vec(),
            infinity(48),
            vec![0xff; 48],
            vec![0; 96],
            flipped(&public_key, 0, 0x80),
            flipped(&public_key, 0, 0x40),
        ];
        for bad in bad_keys {
            assert_eq!(verify(&bad, message, &signature), Err(BlsError::PublicKey), "{}", hex::encode(&bad));
        }
        let bad_signatures = [
            vec![],
            signature[..95].to_vec(),
            infinity(96),
            vec![0xff; 96],
            vec![0; 192],
            flipped(&signature, 0, 0x80),
            flipped(&signature, 0, 0x40),
        ];
        for bad in bad_signatures {
            assert_eq!(verify(&public_key, message, &bad), Err(BlsError::Signature), "{}", hex::encode(&bad));
        }
        assert_eq!(verify(&infinity(48), message, &infinity(96)), Err(BlsError::PublicKey));
    }

    #[test]
    fn points_outside_the_subgroup_are_refused() {
        // The curve points with the least x: a point of the curve lies in the subgroup with a probability of about
        // 2^-126 (G1) or 2^-250 (G2).
        let on_g1 = (1_u8..50)
            .map(|x| {
                let mut bytes = vec![0; 48];
                bytes[0] = 0x80;
                bytes[47] = x;
                bytes
            })
            .find(|bytes| min_pk::PublicKey::uncompress(bytes).is_ok())
            .unwrap();
        let on_g2 = (1_u8..50)
            .map(|x| {
                let mut bytes = vec![0; 96];
                bytes[0] = 0x80;
                bytes[95] = x;
                bytes
            })
            .find(|bytes| min_pk::Signature::uncompress(bytes).is_ok())
            .unwrap();
        let signature = key().sign(b"message");
        assert_eq!(verify(&on_g1, b"message", &signature), Err(BlsError::PublicKey));
        assert_eq!(verify(&key().public_key(), b"message", &on_g2), Err(BlsError::Signature));
    }

    #[test]
    fn a_sum_of_signatures_is_that_of_all_its_keys_and_of_no_others() {
        let keys: Vec<_> = (1..=3_u8).map(|seed| SecretKey::from_seed(&[seed; 32]).unwrap()).collect();
        let public_keys: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
        let signatures: Vec<_> = keys.iter().map(|key| key.sign(b"message")).collect();
        let sum = aggregate(&signatures).unwrap();
        assert_eq!(verify_aggregate(&public_keys, b"message", &sum), Ok(()));
        assert_eq!(verify_aggregate(&public_keys, b"another", &sum), Err(BlsError::Mismatch));
        assert_eq!(verify_aggregate(&public_keys[1..], b"message", &sum), Err(BlsError::Mismatch));
        assert_eq!(aggregate(&signatures[..1]).unwrap(), signatures[0]);
        assert_eq!(verify_aggregate(&public_keys[..1], b"message", &signatures[0]), Ok(()));
    }

    #[test]
    fn sums_of_nothing_or_of_malformed_points_are_refused() {
        let none: [&[u8]; 0] = [];
        let (public_key, signature) = (key().public_key(), key().sign(b"message"));
        assert_eq!(aggregate(&none), Err(BlsError::Nothing));
        assert_eq!(verify_aggregate(&none, b"message", &signature), Err(BlsError::Nothing));
        assert_eq!(aggregate(&[signature.to_vec(), infinity(96)]), Err(BlsError::Signature));
        let with_infinity = [public_key.to_vec(), infinity(48)];
        assert_eq!(verify_aggregate(&with_infinity, b"message", &signature), Err(BlsError::PublicKey));
        // A key and its negative add up to infinity.
        let mut negative = public_key.to_vec();
        negative[0] ^= 0x20;
        let cancelling = [public_key.to_vec(), negative];
        assert_eq!(verify_aggregate(&cancelling, b"message", &signature), Err(BlsError::PublicKey));
    }

    #[test]
    fn many_are_right_together_only_if_each_is() {
        let keys: Vec<_> = (1..=3_u8).map(|seed| SecretKey::from_seed(&[seed; 32]).unwrap()).collect();
        let signed: Vec<_> = (0..9_u8)
            .map(|n| {
                let key = &keys[usize::from(n) % keys.len()];
                (key.public_key().to_vec(), vec![n; 40], key.sign(&[n; 40]).to_vec())
            })
            .collect();
        let seed = [7; 32];
        assert_eq!(verify_many(&signed, &seed), Ok(()));
        assert_eq!(verify_many(&signed[..1], &seed), Ok(()));
        assert_eq!(verify_many(&signed[..0], &seed), Err(BlsError::Nothing));
        for wrong in 0..signed.len() {
            let mut changed = signed.clone();
            changed[wrong].1[0] ^= 1;
            assert_eq!(verify_many(&changed, &seed), Err(BlsError::Mismatch));
            changed[wrong] = (infinity(48), vec![], signed[wrong].2.clone());
            assert_eq!(verify_many(&changed, &seed), Err(BlsError::PublicKey));
            changed[wrong] = (signed[wrong].0.clone(), vec![], infinity(96));
            assert_eq!(verify_many(&changed, &seed), Err(BlsError::Signature));
        }
        // Two of one key, exchanged: their sum is right, and each of them wrong.
        let mut exchanged = signed.clone();
        exchanged[0].2 = signed[3].2.clone();
        exchanged[3].2 = signed[0].2.clone();
        let sum = |signed: &[(Vec<u8>, Vec<u8>, Vec<u8>)]| aggregate(&[&signed[0].2, &signed[3].2]).unwrap();
        assert_eq!(sum(&exchanged), sum(&signed));
        assert_eq!(verify_many(&exchanged, &seed), Err(BlsError::Mismatch));
    }

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", key()), "SecretKey(..)");
    }
}
