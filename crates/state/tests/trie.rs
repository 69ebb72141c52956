//! The trie against independent oracles: `alloy-trie` for roots and proofs, a map for contents.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use alloy_trie::proof::verify_proof;
use alloy_trie::{HashBuilder, Nibbles};
use noria_state::{
    Layered, MemoryNodes, NodeBatch, NodeSource, Root, StateError, get, leaves, prove, trie_root, update, verify,
};
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Writes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Root from scratch by another implementation. Wants keys none of which is the beginning of another.
fn oracle_root(model: &Model) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in model {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

type Changes<'a> = Vec<(&'a [u8], Option<(&'a [u8], u64)>)>;

fn changes(writes: &Writes) -> Changes<'_> {
    writes.iter().map(|(key, value)| (&key[..], (!value.is_empty()).then(|| (&value[..], aux_of(value))))).collect()
}

/// A number beside the value that a wrong copy would show; 0 for some.
fn aux_of(value: &[u8]) -> u64 {
    u64::from(value[0]) % 3
}

fn write(model: &mut Model, writes: &Writes) {
    for (key, value) in writes {
        if value.is_empty() {
            model.remove(key);
        } else {
            model.insert(key.clone(), value.clone());
        }
    }
}

fn assert_holds<S: NodeSource>(nodes: &S, root: Root, model: &Model) {
    let found: Vec<_> = leaves(nodes, root).map(|entry| entry.unwrap()).collect();
    assert_eq!(found.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect::<Model>(), *model);
    assert!(found.is_sorted_by(|a, b| a.key < b.key));
    for entry in &found {
        assert_eq!(entry.aux, aux_of(&entry.value));
        let leaf = get(nodes, root, &entry.key).unwrap().unwrap();
        assert_eq!((leaf.value, leaf.aux), (&entry.value[..], entry.aux));
    }
    let mut seen = 0;
    let verified = verify(nodes, root, &mut |key, leaf| {
        assert_eq!(model[key], leaf.value);
        seen += 1;
        Ok(())
    });
    assert_eq!(verified.unwrap().leaves, model.len() as u64);
    assert_eq!(seen, model.len());
}

/// Keys of one length that share many beginnings, so that all shapes of nodes appear.
fn key(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0x00u8), Just(0x01), Just(0x10), Just(0x11), Just(0xf1), any::<u8>()];
    proptest::collection::vec(byte, length)
}

/// Short values are inlined in their parents; an empty one deletes.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        2 => proptest::collection::vec(any::<u8>(), 1..4),
        1 => proptest::collection::vec(any::<u8>(), 28..80),
    ]
}

fn rounds(length: usize) -> impl Strategy<Value = Vec<Writes>> {
    proptest::collection::vec(proptest::collection::btree_map(key(length), value(), 0..24), 1..8)
}

fn check_rounds(rounds: &[Writes]) {
    let (mut nodes, mut model, mut root) = (MemoryNodes::new(), Model::new(), Root::EMPTY);
    let mut past = Vec::new();
    for writes in rounds {
        // Deletions also hit keys that exist.
        let mut writes = writes.clone();
        for (key, _) in model.iter().step_by(3).take(writes.len() / 2) {
            writes.entry(key.clone()).or_default();
        }
        let mut batch = NodeBatch::new();
        let made = update(&nodes, root, &changes(&writes), &mut batch).unwrap();
        write(&mut model, &writes);
        assert_eq!(made.hash, oracle_root(&model));
        assert_holds(&Layered::new(&nodes, &batch), made, &model);
        if made.hash == root.hash {
            assert_eq!((made, batch.len()), (root, 0), "a change that changes nothing makes no node");
        }
        root = nodes.absorb(batch, made);
        past.push((root, model.clone()));
    }
    for (root, model) in past {
        assert_holds(&nodes, root, &model);
    }
}

fn check_proofs(writes: &Writes, absent: &[Vec<u8>]) {
    let mut model = Model::new();
    write(&mut model, writes);
    let mut batch = NodeBatch::new();
    let nodes = MemoryNodes::new();
    let root = update(&nodes, Root::EMPTY, &changes(writes), &mut batch).unwrap();
    let nodes = Layered::new(&nodes, &batch);
    for key in model.keys().chain(absent) {
        let proof = prove(&nodes, root, key).unwrap();
        if let [only] = &proof[..]
            && only.len() < 32
        {
            // The verifier does not know that a root is hashed even when it is short.
            assert_eq!(keccak256(only), root.hash);
            continue;
        }
        verify_proof(root.hash, Nibbles::unpack(key), model.get(key).cloned(), &proof).unwrap();
        // The proof does not prove something else.
        verify_proof(root.hash, Nibbles::unpack(key), Some(b"else".to_vec()), &proof).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roots_match_a_rebuild_after_every_round_and_old_roots_stay_readable_short_keys(rounds in rounds(2)) {
        check_rounds(&rounds);
    }

    #[test]
    fn roots_match_a_rebuild_after_every_round_and_old_roots_stay_readable_long_keys(rounds in rounds(32)) {
        check_rounds(&rounds);
    }

    #[test]
    fn proofs_verify_for_present_and_absent_keys(
        writes in proptest::collection::btree_map(key(32), value(), 0..40),
        absent in proptest::collection::vec(key(32), 8),
    ) {
        let absent: Vec<_> = absent.into_iter().filter(|key| !writes.contains_key(key)).collect();
        check_proofs(&writes, &absent);
    }

    #[test]
    fn proofs_with_inlined_nodes_verify(writes in proptest::collection::btree_map(key(3), value(), 0..40)) {
        let absent: Vec<Vec<u8>> =
            (0..40u8).map(|at| vec![at, 0x11, at]).filter(|key| !writes.contains_key(key)).collect();
        check_proofs(&writes, &absent);
    }

    /// Keys of any length, some the beginning of others (values in branches): the order of writes does not matter
    /// and the contents are right. `alloy-trie` has no such keys, so that the oracle is a build in one go.
    #[test]
    fn keys_that_begin_other_keys(
        rounds in proptest::collection::vec(
            proptest::collection::btree_map((0usize..5).prop_flat_map(key), value(), 0..16), 1..6),
    ) {
        let (mut nodes, mut model, mut root) = (MemoryNodes::new(), Model::new(), Root::EMPTY);
        for writes in &rounds {
            let mut batch = NodeBatch::new();
            let made = update(&nodes, root, &changes(writes), &mut batch).unwrap();
            write(&mut model, writes);
            root = nodes.absorb(batch, made);
            assert_holds(&nodes, root, &model);
            let items: Vec<_> = model.iter().collect();
            prop_assert_eq!(root.hash, trie_root(&items, false).unwrap());
        }
    }

    #[test]
    fn damaged_nodes_give_errors_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in 0u8..4) {
        struct One(Vec<u8>);
        impl NodeSource for One {
            fn node(&self, id: u64) -> Result<&[u8], StateError> {
                if id < 3 { Ok(&self.0) } else { Err(StateError::MissingNode(id)) }
            }
        }
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = *first & 0xfc | kind;
        }
        let source = One(bytes);
        let root = Root { hash: B256::repeat_byte(1), id: 1 };
        for key in [&[][..], &[0x12], &[0; 32]] {
            let _ = get(&source, root, key);
            let _ = prove(&source, root, key);
            let _ = update(&source, root, &[(key, Some((b"value", 0)))], &mut NodeBatch::new());
            let _ = update(&source, root, &[(key, None::<(&[u8], u64)>)], &mut NodeBatch::new());
        }
        let _ = leaves(&source, root).take(100).count();
        prop_assert!(verify(&source, root, &mut |_, _| Ok(())).is_err());
    }
}

#[test]
fn tries_of_the_public_examples() {
    let root = |items: &[(&str, &str)]| trie_root(items, false).unwrap().to_string();
    assert_eq!(root(&[]), Root::EMPTY.hash.to_string());
    assert_eq!(
        root(&[("doe", "reindeer"), ("dog", "puppy"), ("dogglesworth", "cat")]),
        "0x8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3"
    );
    assert_eq!(
        root(&[("do", "verb"), ("horse", "stallion"), ("doge", "coin"), ("dog", "puppy")]),
        "0x5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84"
    );
    assert_eq!(root(&[("a", "b"), ("a", "")]), Root::EMPTY.hash.to_string());
}

#[test]
fn one_batch_holds_storage_and_account_tries() {
    let mut nodes = MemoryNodes::new();
    let mut batch = NodeBatch::new();
    let slots: Vec<_> = (0..50u64)
        .map(|slot| keccak256(slot.to_be_bytes()))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|key| (key, Some((b"slot value".to_vec(), 0))))
        .collect();
    let storage = update(&nodes, Root::EMPTY, &slots, &mut batch).unwrap();
    let account = keccak256("account");
    let state = update(&nodes, Root::EMPTY, &[(account, Some((storage.hash, storage.id)))], &mut batch).unwrap();
    let state = nodes.absorb(batch, state);

    let leaf = get(&nodes, state, account.as_slice()).unwrap().unwrap();
    let storage = Root { hash: B256::from_slice(leaf.value), id: leaf.aux };
    assert_eq!(leaves(&nodes, storage).map(|entry| entry.unwrap().value).collect::<Vec<_>>(), vec![b"slot value"; 50]);
    verify(&nodes, storage, &mut |_, _| Ok(())).unwrap();

    // A second block on top, in which the new storage root is known by its batch.
    let mut batch = NodeBatch::new();
    let next = update(&nodes, storage, &[(slots[0].0, Some((b"other", 0)))], &mut batch).unwrap();
    let again = update(&nodes, next, &[(slots[1].0, Some((b"other", 0)))], &mut batch).unwrap();
    let state = update(&nodes, state, &[(account, Some((again.hash, again.id)))], &mut batch).unwrap();
    let layered = Layered::new(&nodes, &batch);
    assert_eq!(get(&layered, again, slots[0].0.as_slice()).unwrap().unwrap().value, b"other");
    let state = nodes.absorb(batch, state);
    let leaf = get(&nodes, state, account.as_slice()).unwrap().unwrap();
    let found = Root { hash: B256::from_slice(leaf.value), id: leaf.aux };
    assert_eq!(found.hash, again.hash);
    verify(&nodes, found, &mut |_, _| Ok(())).unwrap();
}

#[test]
fn wrong_changes_are_refused_and_leave_the_batch_alone() {
    let nodes = MemoryNodes::new();
    let mut batch = NodeBatch::new();
    let value = Some((b"value", 0));
    for keys in [[b"b", b"a"], [b"a", b"a"]] {
        let error = update(&nodes, Root::EMPTY, &keys.map(|key| (key, value)), &mut batch).unwrap_err();
        assert!(matches!(error, StateError::Unsorted(1)));
    }
    let error = update(&nodes, Root::EMPTY, &[(vec![0; 257], value)], &mut batch).unwrap_err();
    assert!(matches!(error, StateError::KeyTooLong(257)));
    let root = Root { hash: B256::repeat_byte(1), id: 7 };
    assert!(matches!(update(&nodes, root, &[(b"a", value)], &mut batch), Err(StateError::MissingNode(7))));
    assert!(batch.is_empty());
}

#[test]
fn the_longest_keys_work() {
    let mut items: Vec<(Vec<u8>, &[u8])> = (0..=256).map(|length| (vec![0x11; length], &b"value"[..])).collect();
    let root = trie_root(&items, false).unwrap();
    items.reverse();
    assert_eq!(trie_root(&items, false).unwrap(), root);
}

#[test]
fn empty_trie_proves_absence_with_nothing() {
    assert!(prove(&MemoryNodes::new(), Root::EMPTY, &[0; 32]).unwrap().is_empty());
    verify_proof(Root::EMPTY.hash, Nibbles::unpack([0; 32]), None, &[]).unwrap();
}
