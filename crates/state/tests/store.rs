//! Blocks, branches and snapshots of an open store.

mod common;

use std::collections::HashMap;

use alloy_primitives::B256;
use common::{QUICK, assert_complete, child, genesis, id, open, writes};
use noria_state::{HeadChange, NewBlock, Options, Reader, Root, Store, StoreError, TransactionLocation, get, leaves};
use proptest::prelude::*;

#[test]
fn a_new_store_is_empty_until_genesis() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), QUICK).unwrap();
    assert_eq!((store.genesis_hash().unwrap(), store.head().unwrap()), (None, None));
    let block = NewBlock { number: 1, hash: id(&[1]), ..NewBlock::default() };
    assert!(matches!(store.commit(&block, true), Err(StoreError::NoGenesis)));
    assert!(matches!(store.init_genesis(&block), Err(StoreError::Inconsistent { .. })));

    store.init_genesis(&genesis(0)).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!((reader.genesis().unwrap(), reader.head().unwrap()), (Some(genesis(0).hash), Some(genesis(0).hash)));
    assert_eq!(reader.canonical(0).unwrap(), Some(genesis(0).hash));
    assert_complete(&reader, &genesis(0));
    // Again: nothing happens.
    store.init_genesis(&genesis(0)).unwrap();
}

#[test]
fn blocks_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut blocks = vec![genesis(0)];
    let store = open(directory.path(), QUICK).unwrap();
    for salt in 1..20 {
        let block = child(&store.reader().unwrap(), blocks.last().unwrap().hash, salt, salt % 4);
        let change = store.commit(&block, true).unwrap();
        assert_eq!(change, HeadChange { removed: vec![], added: vec![block.hash] });
        blocks.push(block);
    }
    drop(store);

    let store = open(directory.path(), QUICK).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(reader.head().unwrap(), Some(blocks.last().unwrap().hash));
    let mut next = 1;
    for block in &blocks {
        assert_complete(&reader, block);
        assert_canonical(&reader, block);
        // The nodes of every state stay, each block's in a range of its own.
        let header = reader.header(block.hash).unwrap().unwrap();
        assert_eq!(header.nodes.start, next);
        next = header.nodes.end;
    }
    assert_eq!(reader.extra(b"last").unwrap(), Some(&19u64.to_be_bytes()[..]));
}

fn assert_canonical(reader: &Reader, block: &NewBlock) {
    assert!(reader.is_canonical(block.hash).unwrap());
    assert_eq!(reader.canonical(block.number).unwrap(), Some(block.hash));
    for (index, hash) in (0..).zip(&block.transaction_hashes) {
        let location = TransactionLocation { block_hash: block.hash, block_number: block.number, index };
        assert_eq!(reader.transaction_location(*hash).unwrap(), Some(location));
    }
}

#[test]
fn a_reorganisation_moves_numbers_and_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let grow = |parent: B256, salt: u64, make_head: bool| {
        let block = child(&store.reader().unwrap(), parent, salt, 3);
        let change = store.commit(&block, make_head).unwrap();
        (block, change)
    };
    let (a1, _) = grow(genesis(0).hash, 1, true);
    let (a2, _) = grow(a1.hash, 2, true);
    let (a3, _) = grow(a2.hash, 3, true);
    let (b2, change) = grow(a1.hash, 12, false);
    assert_eq!(change, HeadChange::default());
    let (b3, _) = grow(b2.hash, 13, false);
    assert_eq!(store.head().unwrap(), Some(a3.hash));
    assert!(!store.reader().unwrap().is_canonical(b3.hash).unwrap());

    // The block that makes the branch longer takes the head over.
    let (b4, change) = grow(b3.hash, 14, true);
    assert_eq!(change, HeadChange { removed: vec![a3.hash, a2.hash], added: vec![b2.hash, b3.hash, b4.hash] });
    let reader = store.reader().unwrap();
    for block in [&a1, &b2, &b3, &b4] {
        assert_canonical(&reader, block);
        assert_complete(&reader, block);
    }
    for block in [&a2, &a3] {
        assert_complete(&reader, block);
        assert!(!reader.is_canonical(block.hash).unwrap());
        // Transaction 0 is in the new branch too, the others are in no canonical block any more.
        assert_ne!(reader.transaction_location(block.transaction_hashes[0]).unwrap().unwrap().block_hash, block.hash);
        assert_eq!(reader.transaction_location(block.transaction_hashes[1]).unwrap(), None);
    }

    // Back to an ancestor, and to the other branch again.
    let change = store.set_head(a1.hash).unwrap();
    assert_eq!(change, HeadChange { removed: vec![b4.hash, b3.hash, b2.hash], added: vec![] });
    assert_eq!(store.reader().unwrap().canonical(2).unwrap(), None);
    let change = store.set_head(a3.hash).unwrap();
    assert_eq!(change, HeadChange { removed: vec![], added: vec![a2.hash, a3.hash] });
    assert_canonical(&store.reader().unwrap(), &a3);
    assert_eq!(store.set_head(a3.hash).unwrap(), HeadChange::default());
    // A stored block that is committed again becomes head and is not written twice.
    let change = store.commit(&b4, true).unwrap();
    assert_eq!((change.removed.len(), change.added.len()), (2, 3));
    assert_eq!(store.commit(&b4, true).unwrap(), HeadChange::default());
    assert_complete(&store.reader().unwrap(), &b4);
}

#[test]
fn snapshots_do_not_move() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let before = store.reader().unwrap();
    let block = child(&before, genesis(0).hash, 1, 2);
    store.commit(&block, true).unwrap();
    assert_eq!(before.head().unwrap(), Some(genesis(0).hash));
    assert_eq!(before.header(block.hash).unwrap(), None);
    let after = store.reader().unwrap();
    // A snapshot may be read on another thread, and outlive the store's handle.
    drop(store);
    std::thread::spawn(move || assert_complete(&after, &block)).join().unwrap();
}

#[test]
fn a_state_reads_back_under_old_and_new_roots() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let block = child(&store.reader().unwrap(), genesis(0).hash, 5, 0);
    store.commit(&block, true).unwrap();
    let reader = store.reader().unwrap();
    let root = |hash| reader.header(hash).unwrap().unwrap().state_root;
    let shared = B256::repeat_byte(0x77);
    for (hash, salt, entries) in [(genesis(0).hash, 0u64, 8), (block.hash, 5, 15)] {
        let leaf = get(&reader, root(hash), shared.as_slice()).unwrap().unwrap();
        assert_eq!(leaf.value, salt.to_be_bytes().repeat(5));
        assert_eq!(leaves(&reader, root(hash)).count(), entries);
        for (key, _) in writes(salt) {
            assert!(get(&reader, root(hash), key.as_slice()).unwrap().is_some());
        }
    }
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let good = child(&store.reader().unwrap(), genesis(0).hash, 1, 2);
    let refused = |change: &dyn Fn(&mut NewBlock)| {
        let mut block = good.clone();
        change(&mut block);
        let error = store.commit(&block, true).unwrap_err();
        let reader = store.reader().unwrap();
        assert_eq!((reader.head().unwrap(), reader.header(block.hash).unwrap()), (Some(genesis(0).hash), None));
        assert_eq!(reader.code(good.codes[0].0).unwrap(), None);
        error
    };
    let unknown = |error| matches!(error, StoreError::UnknownParent { .. });
    assert!(unknown(refused(&|block| block.parent_hash = id(&[404]))));
    assert!(unknown(refused(&|block| block.number = 2)));
    assert!(unknown(refused(&|block| block.number = 0)));
    let inconsistent = |error| matches!(error, StoreError::Inconsistent { .. });
    assert!(inconsistent(refused(&|block| block.receipts.truncate(1))));
    assert!(inconsistent(refused(&|block| block.senders.truncate(1))));
    assert!(inconsistent(refused(&|block| block.transaction_hashes.truncate(1))));
    assert!(inconsistent(refused(&|block| block.nodes = Default::default())));
    assert!(inconsistent(refused(&|block| block.state_root = Root { id: 1 << 40, ..Root::EMPTY })));
    let key = |error, length| matches!(error, StoreError::ExtraKey(found) if found == length);
    assert!(key(refused(&|block| block.extra.push((vec![], None))), 0));
    assert!(key(refused(&|block| block.extra.push((vec![1; 512], Some(vec![])))), 512));
    assert!(matches!(store.set_head(id(&[404])), Err(StoreError::UnknownBlock(_))));
    store.commit(&good, true).unwrap();
}

#[test]
fn extra_entries_are_written_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    store.put_extra(&[(b"a".to_vec(), Some(b"1".to_vec())), (vec![7; 511], Some(vec![]))]).unwrap();
    assert_eq!(store.reader().unwrap().extra(b"a").unwrap(), Some(&b"1"[..]));
    store.put_extra(&[(b"a".to_vec(), None), (b"never".to_vec(), None)]).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!((reader.extra(b"a").unwrap(), reader.extra(&[7; 511]).unwrap()), (None, Some(&[][..])));
    assert_eq!((reader.extra(b"").unwrap(), reader.extra(&[7; 512]).unwrap()), (None, None));
}

#[test]
fn threads_read_while_one_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), QUICK).unwrap();
    let reads = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let reader = store.reader().unwrap();
                    let head = reader.header(reader.head().unwrap().unwrap()).unwrap().unwrap();
                    assert_eq!(leaves(&reader, head.state_root).count() as u64, 8 + 7 * head.number);
                    reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if head.number == 60 {
                        return;
                    }
                }
            });
        }
        let mut head = genesis(0).hash;
        for salt in 1..=60 {
            let block = child(&store.reader().unwrap(), head, salt, 3);
            store.commit(&block, true).unwrap();
            head = block.hash;
        }
    });
    assert!(reads.into_inner() >= 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random trees of blocks and random head moves, against a plain model of what is canonical.
    #[test]
    fn indices_follow_every_sequence_of_heads(
        steps in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0u64..4, any::<bool>()), 1..30),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), QUICK).unwrap();
        let mut blocks = vec![genesis(0)];
        let mut head = 0;
        for (salt, (pick, grows, transactions, make_head)) in (1u64..).zip(steps) {
            let at = pick.index(blocks.len());
            let change = if grows {
                let block = child(&store.reader().unwrap(), blocks[at].hash, salt, transactions);
                let change = store.commit(&block, make_head).unwrap();
                blocks.push(block);
                if make_head {
                    head = blocks.len() - 1;
                }
                change
            } else {
                head = at;
                store.set_head(blocks[at].hash).unwrap()
            };
            let by_hash: HashMap<B256, &NewBlock> = blocks.iter().map(|block| (block.hash, block)).collect();
            let mut canonical = vec![&blocks[head]];
            while canonical.last().unwrap().number > 0 {
                canonical.push(by_hash[&canonical.last().unwrap().parent_hash]);
            }
            let reader = store.reader().unwrap();
            prop_assert_eq!(reader.head().unwrap(), Some(blocks[head].hash));
            prop_assert_eq!(reader.canonical(blocks[head].number + 1).unwrap(), None);
            for block in &canonical {
                assert_canonical(&reader, block);
            }
            let is_canonical = |hash: B256| canonical.iter().any(|block| block.hash == hash);
            for block in &blocks {
                prop_assert_eq!(reader.is_canonical(block.hash).unwrap(), is_canonical(block.hash));
                for hash in &block.transaction_hashes {
                    if let Some(location) = reader.transaction_location(*hash).unwrap() {
                        prop_assert!(is_canonical(location.block_hash));
                        let found = by_hash[&location.block_hash].transaction_hashes[location.index as usize];
                        prop_assert_eq!(found, *hash);
                    } else {
                        prop_assert!(!is_canonical(block.hash));
                    }
                }
            }
            prop_assert!(change.removed.iter().all(|hash| !is_canonical(*hash)));
            prop_assert!(change.added.iter().all(|hash| is_canonical(*hash)));
        }
    }
}

#[test]
fn commits_that_did_not_wait_are_there_after_a_kill_and_refused_after_a_power_loss() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = Options { sync: true, ..QUICK };
    let mark = path.join("noria.unsettled");
    let store = open(&path, options).unwrap();
    store.relax().unwrap();
    assert!(mark.exists());
    let block = child(&store.reader().unwrap(), store.head().unwrap().unwrap(), 1, 2);
    store.commit(&block, true).unwrap();
    store.settle().unwrap();
    assert!(!mark.exists());
    store.settle().unwrap();

    // Dropped without `settle`, as a killed process would leave it.
    store.relax().unwrap();
    let second = child(&store.reader().unwrap(), block.hash, 2, 2);
    store.commit(&second, true).unwrap();
    drop(store);
    let store = Store::open(&path, options).unwrap();
    assert_eq!(store.head().unwrap(), Some(second.hash));
    assert!(!mark.exists());
    drop(store);

    // Another run of the system: what it had not written is gone.
    std::fs::write(&mark, b"another run\n").unwrap();
    let error = Store::open(&path, options).unwrap_err();
    assert!(matches!(error, StoreError::Unsettled(_)), "{error}");
    assert!(error.to_string().contains("delete the directory to sync anew"));
    assert!(mark.exists());
}
