//! Snapshots: what a module knew goes on, on every engine, and what cannot be written down is refused.

use std::sync::Arc;

use noria_sandbox::snapshot::{Recipe, SnapshotError, Word, take};
use noria_sandbox::wasi::Files;
use noria_sandbox::{EngineKind, Sandbox, Status};

/// A reactor whose turns add their bytes to a sum in memory and count in a global; the status is 1 for the text `fail`.
/// The last turn, from `_start`, writes sum and count.
const REACTOR: &str = r#"
(module
  (import "foreign" "call" (func $foreign (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (table 3 funcref)
  (elem (i32.const 0) $unwanted $wanted $unwanted_constructor)
  (global $next (mut i32) (i32.const 4096))
  (global $turns (mut i64) (i64.const 0))
  (global $half (mut f64) (f64.const 0))
  (data (i32.const 100) "kept")
  (data (i32.const 200) "file")
  (func $constructors call $unwanted_constructor)
  (func $unwanted_constructor unreachable)
  (func $unwanted (result i32) (call $foreign (i32.const 1)))
  (func $wanted (result i32) i32.const 7)
  (func (export "_initialize")
    call $constructors
    (i32.store (i32.const 16) (call_indirect (result i32) (i32.const 1)))
    (global.set $half (f64.const 0.5))
    (drop (memory.grow (i32.const 1))))
  (func (export "host_alloc") (param $length i32) (result i32)
    global.get $next
    (global.set $next (i32.add (global.get $next) (local.get $length))))
  (func (export "turn") (param $at i32) (param $length i32) (result i32)
    (global.set $turns (i64.add (global.get $turns) (i64.const 1)))
    (if (i32.eq (local.get $length) (i32.const 1)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $length) (i32.const 2)) (then unreachable))
    (if (i32.eq (local.get $length) (i32.const 3)) (then (call $proc_exit (i32.const 5))))
    (if (i32.eq (local.get $length) (i32.const 4)) (then
      (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 4) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 48)))))
    (if (i32.eq (local.get $length) (i32.const 6)) (then
      (drop (call_indirect (result i32) (i32.const 0)))))
    (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (local.get $length)))
    (if (i32.eq (local.get $length) (i32.const 5)) (then
      (i64.store (i32.const 24) (global.get $turns))
      (f64.store (i32.const 32) (global.get $half))
      (i32.store (i32.const 40) (memory.size))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 32))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
    (i32.const 0)))
"#;

/// Indices in it: four imports, then these.
const CONSTRUCTORS: u32 = 4;
const UNWANTED: std::ops::Range<u32> = 5..7;

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("a module in text form")
}

fn recipe<'a>(turns: &'a [&'a str], entry: &'a str) -> Recipe<'a> {
    let file: Arc<[u8]> = Arc::from(&b"contents"[..]);
    let files = Files::new([("file".to_owned(), file)]).expect("a valid path");
    Recipe {
        cut: &[UNWANTED],
        constructors: Some(CONSTRUCTORS),
        padded: &[],
        words: &[],
        files: Arc::new(files),
        turns,
        entry,
    }
}

#[test]
fn a_snapshot_goes_on_where_the_module_was_on_every_engine() {
    let taken = take(&module(REACTOR), &recipe(&["0123456789", "01234567"], "write")).expect("a snapshot");
    let mut expected = Vec::new();
    expected.extend(30_u64.to_le_bytes()); // 7 from the start, 10, 8, and 5 of the entry
    expected.extend(3_u64.to_le_bytes());
    expected.extend(0.5_f64.to_le_bytes());
    expected.extend(2_u64.to_le_bytes());
    let mut fuel = Vec::new();
    for kind in EngineKind::ALL {
        let cache = tempfile::tempdir().expect("a folder");
        let program =
            Sandbox::new(cache.path(), kind).expect("an engine").load(&taken, Arc::default()).expect("a program");
        for _ in 0..2 {
            let outcome = program.run(Arc::from(&[][..]), 1_000_000).expect("a run");
            assert_eq!((outcome.status, &outcome.output), (Status::Ok, &expected), "{kind}");
            fuel.push(outcome.fuel);
        }
    }
    assert!(fuel.iter().all(|used| *used == fuel[0]), "{fuel:?}");
}

#[test]
fn a_snapshot_has_the_same_bytes_each_time() {
    let take = || take(&module(REACTOR), &recipe(&["0123456789"], "write")).expect("a snapshot");
    assert_eq!(take(), take());
}

#[test]
fn a_function_that_was_cut_traps_where_a_table_named_it() {
    let taken = take(&module(REACTOR), &recipe(&[], "sixsix")).expect("a snapshot");
    let cache = tempfile::tempdir().expect("a folder");
    let sandbox = Sandbox::new(cache.path(), EngineKind::Wasmtime).expect("an engine");
    let outcome = sandbox.load(&taken, Arc::default()).expect("a program").run(Arc::from(&[][..]), 1_000_000);
    assert_eq!(outcome.expect("a run").status, Status::Failed);
}

#[test]
fn a_padded_function_takes_more_of_the_stack_until_it_ends() {
    // `deep` notes the stack pointer, and leaves in four ways: by return, out of a loop, by a branch, at its end.
    const PADDED: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (global $stack (mut i32) (i32.const 5000))
  (data (i32.const 100) "kept")
  (func $deep (param $way i32)
    (i32.store (i32.add (i32.const 16) (i32.mul (local.get $way) (i32.const 8))) (global.get $stack))
    (block $out
      (loop $again
        (if (i32.eq (local.get $way) (i32.const 0)) (then return))
        (br_if 2 (i32.eq (local.get $way) (i32.const 1)))
        (br_if $out (i32.eq (local.get $way) (i32.const 2)))))
    (i32.store (i32.const 200) (local.get $way)))
  (func $noted (param $way i32)
    (call $deep (local.get $way))
    (i32.store (i32.add (i32.const 20) (i32.mul (local.get $way) (i32.const 8))) (global.get $stack)))
  (func (export "_initialize"))
  (func (export "host_alloc") (param i32) (result i32) i32.const 4096)
  (func (export "turn") (param i32 i32) (result i32)
    (call $noted (i32.const 0)) (call $noted (i32.const 1)) (call $noted (i32.const 2)) (call $noted (i32.const 3))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 32))
    (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;
    for (padded, inside) in [(&[][..], 5000_u32), (&[(2, 80)][..], 4920)] {
        let recipe = Recipe { cut: &[], constructors: None, padded, ..recipe(&[], "x") };
        let taken = take(&module(PADDED), &recipe).expect("a snapshot");
        let cache = tempfile::tempdir().expect("a folder");
        let sandbox = Sandbox::new(cache.path(), EngineKind::Wasmtime).expect("an engine");
        let program = sandbox.load(&taken, Arc::default()).expect("a program");
        let outcome = program.run(Arc::from(&[][..]), 1_000_000).expect("a run");
        let expected: Vec<u8> = [inside, 5000].repeat(4).into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!((outcome.status, outcome.output), (Status::Ok, expected));
    }
}

#[test]
fn words_are_changed_only_if_they_hold_what_is_expected() {
    let changed = |from| {
        let words = [Word { address: 16, from, to: 1000 }];
        take(&module(REACTOR), &Recipe { words: &words, ..recipe(&["0123456789"], "write") })
    };
    let error = changed(16).expect_err("no snapshot").to_string();
    assert!(error.contains("its word at 16 is 17, the recipe says 16"), "{error}");
    let taken = changed(17).expect("a snapshot");
    let cache = tempfile::tempdir().expect("a folder");
    let sandbox = Sandbox::new(cache.path(), EngineKind::Wasmtime).expect("an engine");
    let program = sandbox.load(&taken, Arc::default()).expect("a program");
    let outcome = program.run(Arc::from(&[][..]), 1_000_000).expect("a run");
    assert_eq!(outcome.output[..8], 1005_u64.to_le_bytes());
    let words = [Word { address: u32::MAX, from: 0, to: 0 }];
    let error = take(&module(REACTOR), &Recipe { words: &words, ..recipe(&[], "write") }).expect_err("no snapshot");
    assert!(error.to_string().contains("no memory at"), "{error}");
}

#[test]
fn turns_that_fail_are_named() {
    for (text, reason) in [("1", "status 1"), ("22", "unreachable"), ("333", "exited with status 5")] {
        let error = take(&module(REACTOR), &recipe(&["0123456789", text], "write")).expect_err("no snapshot");
        assert!(matches!(error, SnapshotError::Turn { turn: 1, .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let open = take(&module(REACTOR), &recipe(&["file"], "write")).expect_err("no snapshot");
    assert!(open.to_string().contains("a file is still open"), "{open}");
}

#[test]
fn what_stays_must_not_need_what_is_cut() {
    let needed = Recipe { constructors: None, ..recipe(&[], "write") };
    let error = take(&module(REACTOR), &needed).expect_err("no snapshot");
    assert!(matches!(error, SnapshotError::Needed { user: CONSTRUCTORS, needed: 5 }), "{error}");
    let cut = 5..6;
    let foreign = Recipe { cut: std::slice::from_ref(&cut), ..recipe(&[], "write") };
    let error = take(&module(REACTOR), &foreign).expect_err("no snapshot");
    assert!(error.to_string().contains("no host offers"), "{error}");
}

#[test]
fn modules_that_are_no_such_reactors_are_refused() {
    let refused = |text: &str, why: &str| {
        let error = take(&module(text), &Recipe { cut: &[], constructors: None, ..recipe(&[], "x") });
        let error = error.expect_err("no snapshot").to_string();
        assert!(error.contains(why), "{error}");
    };
    refused("(module)", "exports no memory");
    refused(r#"(module (memory (export "memory") 1))"#, "_initialize");
    refused(r#"(module (import "wasi_snapshot_preview1" "x" (memory 1)))"#, "no function");
    refused("(module (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))", "changes tables");
    refused("(module (global (mut funcref) (ref.null func)))", "holds no number");
    let error = take(b"\0asm\x01\0\0\0\x01", &recipe(&[], "x")).expect_err("no snapshot");
    assert!(matches!(error, SnapshotError::Invalid(_)), "{error}");
}
