//! Small programs on every engine: the same status, output and fuel, good behaviour or bad.

mod everywhere;

use std::sync::Arc;

use everywhere::{Everywhere, PLENTY, wat};
use noria_sandbox::wasi::{EPOCH_NS, Files, OUTPUT_MAX};
use noria_sandbox::{CompileError, EngineKind, FUEL_MAX, LoadError, Status, blob_id, program_id, unit_id};

/// Imports, one memory, and `$print`, which writes `length` bytes at `at` to stdout.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (func $write (param $fd i32) (param $at i32) (param $length i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $length))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    (func $print (param i32 i32) (call $write (i32.const 1) (local.get 0) (local.get 1)))
"#;

fn program(rest: &str) -> Vec<u8> {
    wat(&format!("(module {PRELUDE} {rest})"))
}

/// A program whose `_start` is `body`.
fn start(body: &str) -> Vec<u8> {
    program(&format!(r#"(func (export "_start") {body})"#))
}

#[test]
fn input_becomes_output() {
    let echo = start(
        r"(local $n i32)
        (loop $again
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 1000))
            (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (local.set $n (i32.load (i32.const 8)))
            (call $print (i32.const 1024) (local.get $n))
            (br_if $again (local.get $n)))",
    );
    let input: Vec<u8> = (0..10_000_u32).map(|index| (index % 251) as u8).collect();
    let outcome = Everywhere::new().run(&echo, &input, PLENTY);
    assert_eq!((outcome.status, &outcome.output), (Status::Ok, &input));
    assert!(outcome.fuel > 12 * 40, "{}", outcome.fuel);
}

#[test]
fn exit_codes_and_traps_become_statuses() {
    let everywhere = Everywhere::new();
    for (body, status) in [
        ("", Status::Ok),
        ("(call $exit (i32.const 0)) unreachable", Status::Ok),
        ("(call $exit (i32.const 3))", Status::Failed),
        ("(call $exit (i32.const -1))", Status::Failed),
        ("unreachable", Status::Failed),
        ("(drop (i32.load (i32.const -4)))", Status::Failed),
        ("(i64.store offset=262137 (i32.const 0) (i64.const 1))", Status::Failed),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", Status::Failed),
        ("(drop (i64.div_s (i64.const -9223372036854775808) (i64.const -1)))", Status::Failed),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", Status::Failed),
        ("(memory.fill (i32.const 262000) (i32.const 0) (i32.const 1000))", Status::Failed),
        ("(memory.copy (i32.const 0) (i32.const -1) (i32.const 0x10000000))", Status::Failed),
    ] {
        let logged = format!(
            "(i32.store8 (i32.const 64) (i32.const 33)) (call $write (i32.const 2) (i32.const 64) (i32.const 1)) {body}"
        );
        let outcome = everywhere.run(&start(&logged), b"", PLENTY);
        assert_eq!(outcome.status, status, "{body}");
        assert_eq!(outcome.log, b"!", "{body}");
        let output: &[u8] = if status == Status::Ok { b"" } else { b"!" };
        assert_eq!(outcome.output, output, "of a failed unit the log is the output: {body}");
    }
}

#[test]
fn calls_through_a_table_trap_alike() {
    let everywhere = Everywhere::new();
    for (index, status) in [(0, Status::Ok), (1, Status::Failed), (2, Status::Failed), (9, Status::Failed)] {
        let module = program(&format!(
            r#"(type $nothing (func)) (table 3 funcref) (elem (i32.const 0) $good $other)
            (func $good) (func $other (param i64))
            (func (export "_start") (call_indirect (type $nothing) (i32.const {index})))"#
        ));
        assert_eq!(everywhere.run(&module, b"", PLENTY).status, status, "{index}");
    }
}

#[test]
fn an_endless_loop_uses_up_its_fuel() {
    let everywhere = Everywhere::new();
    for body in ["(loop $l (br $l))", "(loop $l (call $print (i32.const 0) (i32.const 1)) (br $l))"] {
        for limit in [0, 1, 40, 5_000, 6_000, 1_000_000] {
            let outcome = everywhere.run(&start(body), b"", limit);
            assert_eq!((outcome.status, outcome.fuel), (Status::OutOfFuel, limit), "{body}");
        }
    }
}

#[test]
fn exactly_enough_fuel_is_enough() {
    let everywhere = Everywhere::new();
    let module = start("(call $print (i32.const 64) (i32.const 100)) (call $exit (i32.const 0))");
    let needed = everywhere.run(&module, b"", PLENTY).fuel;
    assert_eq!(everywhere.run(&module, b"", needed).status, Status::Ok);
    for limit in (needed - 60..needed).chain([0, needed / 2]) {
        assert_eq!(everywhere.run(&module, b"", limit).status, Status::OutOfFuel, "{limit} of {needed}");
    }
    assert_eq!(everywhere.run(&module, b"", u64::MAX).fuel, needed);
}

#[test]
fn no_limit_counts_beyond_the_largest() {
    let everywhere = Everywhere::new();
    let module = start("(loop $again (drop (memory.grow (i32.const -1))) (br $again))");
    for limit in [FUEL_MAX, FUEL_MAX + 1, u64::MAX] {
        let outcome = everywhere.run(&module, b"", limit);
        assert_eq!((outcome.status, outcome.fuel), (Status::OutOfFuel, FUEL_MAX), "{limit}");
    }
    assert_eq!(everywhere.run(&module, b"", FUEL_MAX - 1).fuel, FUEL_MAX - 1);
}

#[test]
fn recursion_ends_at_the_stack_counter_whatever_the_frames_hold() {
    let everywhere = Everywhere::new();
    let many = |kind: &str, count: usize| format!("(local {})", format!("{kind} ").repeat(count));
    let sum = |count: usize| {
        // All locals stay alive across the call, so that compiled code must keep them in its frame.
        let adds: String = (0..count)
            .map(|index| format!("(local.set {index} (i64.add (local.get {index}) (i64.load (i32.const 16)))) "))
            .collect();
        let uses: String = (0..count).map(|index| format!("(i64.store (i32.const 16) (local.get {index})) ")).collect();
        format!("{} {adds} (call $f) {uses}", many("i64", count))
    };
    let vectors: String = (0..50).map(|index| format!("(v128.store (i32.const 16) (local.get {index})) ")).collect();
    let loads: String =
        (0..50).map(|index| format!("(local.set {index} (v128.load (i32.const {}))) ", index * 16)).collect();
    for body in [
        "(call $f)".to_owned(),
        "(call $f) (call $f)".to_owned(),
        sum(7),
        sum(100),
        sum(1000),
        format!("{} {loads} (call $f) {vectors}", many("v128", 50)),
    ] {
        let module = program(&format!(r#"(func $f {body}) (func (export "_start") (call $f))"#));
        let outcome = everywhere.run(&module, b"", PLENTY);
        assert_eq!(outcome.status, Status::StackLimit, "{}", &body[..body.len().min(60)]);
    }
}

#[test]
fn a_memory_bomb_meets_the_limit() {
    let module = start(
        "(if (i32.ne (memory.grow (i32.const 16380)) (i32.const 4)) (then unreachable))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (if (i32.ne (memory.grow (i32.const 65536)) (i32.const -1)) (then unreachable))
        (if (i32.ne (memory.size) (i32.const 16384)) (then unreachable))
        (i32.store8 (i32.const 0x3fffffff) (i32.const 1))
        (drop (i32.load (i32.const 0x3ffffffd)))",
    );
    let outcome = Everywhere::new().run(&module, b"", PLENTY);
    assert_eq!(outcome.status, Status::Failed, "growing stops at 1 GiB, and the last byte is the last");
    assert!(outcome.fuel >= 64 * 16_380);
}

#[test]
fn the_first_memory_is_paid_for_like_one_that_grew() {
    let everywhere = Everywhere::new();
    let price = |pages: u64| noria_sandbox::prices::price("memory.grow").expect("a row").of(pages);
    for pages in [0, 1, 100, 16_384] {
        let module = wat(&format!(r#"(module (memory {pages}) (func (export "_start") (drop (i32.const 1))))"#));
        let needed = 1 + if pages > 0 { price(pages) } else { 0 };
        let outcome = everywhere.run(&module, b"", PLENTY);
        assert_eq!((outcome.status, outcome.fuel), (Status::Ok, needed), "{pages}");
        assert_eq!(everywhere.run(&module, b"", needed).status, Status::Ok);
        for limit in [0, needed / 2, needed - 1] {
            let outcome = everywhere.run(&module, b"", limit);
            assert_eq!((outcome.status, outcome.fuel), (Status::OutOfFuel, limit), "{pages} {limit}");
        }
    }
}

#[test]
fn a_table_bomb_meets_the_limit() {
    let module = program(
        r#"(table $t 0 funcref)
        (func (export "_start")
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 1000000)) (i32.const 0)) (then unreachable))
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable)))"#,
    );
    assert_eq!(Everywhere::new().run(&module, b"", PLENTY).status, Status::Ok);
}

#[test]
fn what_is_too_large_at_the_start_never_runs() {
    let everywhere = Everywhere::new();
    for part in ["(memory 16385)", "(memory 65536)", "(table 1000001 funcref)", "(memory 1) (table 4000000000 funcref)"]
    {
        let module = wat(&format!(r#"(module {part} (func (export "_start") unreachable))"#));
        let outcome = everywhere.run(&module, b"", PLENTY);
        assert_eq!((outcome.status, outcome.fuel, outcome.output), (Status::TooLarge, 0, vec![]), "{part}");
    }
}

#[test]
fn initial_segments_that_do_not_fit_are_traps() {
    let everywhere = Everywhere::new();
    for part in [
        r#"(memory 1) (data (i32.const 65535) "ab")"#,
        r#"(memory 1) (data (i32.const -1) "a")"#,
        "(table 1 funcref) (func $f) (elem (i32.const 1) $f)",
        r#"(memory 0) (data (i32.const 1) "")"#,
    ] {
        let module = wat(&format!(r#"(module {part} (func (export "_start")))"#));
        let outcome = everywhere.run(&module, b"", PLENTY);
        assert_eq!((outcome.status, outcome.fuel), (Status::Failed, 0), "{part}");
    }
}

#[test]
fn an_output_bomb_meets_the_limit() {
    let everywhere = Everywhere::new();
    let bomb = |rounds: u32| {
        start(&format!(
            "(local $n i32)
            (loop $again
                (call $print (i32.const 0) (i32.const 0x40000))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.ne (local.get $n) (i32.const {rounds}))))"
        ))
    };
    let full = everywhere.run(&bomb(256), b"", PLENTY);
    assert_eq!((full.status, full.output.len()), (Status::Ok, OUTPUT_MAX));
    let outcome = everywhere.run(&bomb(257), b"", PLENTY);
    assert_eq!((outcome.status, outcome.output), (Status::OutputLimit, vec![]));
}

#[test]
fn wild_pointers_in_host_calls_are_answered() {
    let module = program(
        r#"(func $expect (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
        (func (export "_start")
            (call $expect (i32.const 21) (call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8)))
            (call $expect (i32.const 28) (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)))
            (call $expect (i32.const 21) (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const -1)))
            (call $expect (i32.const 21) (call $random (i32.const 1) (i32.const 0x3fffffff)))
            (call $expect (i32.const 8) (call $fd_read (i32.const 77) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    assert_eq!(Everywhere::new().run(&module, b"", 10 * PLENTY).status, Status::Ok);
}

#[test]
fn clock_and_randomness_come_from_the_unit() {
    let everywhere = Everywhere::new();
    let module = start(
        "(drop (call $clock (i32.const 1) (i64.const 0) (i32.const 64)))
        (drop (call $random (i32.const 72) (i32.const 24)))
        (call $print (i32.const 64) (i32.const 32))",
    );
    let outcome = everywhere.run(&module, b"some input", PLENTY);
    let id = unit_id(&program_id(&module), &blob_id(b"some input"), PLENTY);
    let mut random = [0; 24];
    blake3::Hasher::new_keyed(&id.0).finalize_xof().fill(&mut random);
    assert_eq!(outcome.output[8..], random);
    let now = u64::from_le_bytes(outcome.output[..8].try_into().expect("eight bytes"));
    assert!(now > EPOCH_NS && now < EPOCH_NS + outcome.fuel, "{now}");
    assert_ne!(everywhere.run(&module, b"other input", PLENTY).output[8..], random);
}

#[test]
fn nan_bits_are_the_same_everywhere() {
    let everywhere = Everywhere::new();
    let cases = [
        ("f64", "(f64.div (f64.load (i32.const 512)) (f64.load (i32.const 512)))"),
        ("f64", "(f64.sqrt (f64.const -1))"),
        ("f64", "(f64.add (f64.load (i32.const 520)) (f64.const 1))"),
        ("f64", "(f64.min (f64.load (i32.const 520)) (f64.load (i32.const 528)))"),
        ("f64", "(f64.promote_f32 (f32.load (i32.const 528)))"),
        ("f64", "(f64.nearest (f64.load (i32.const 520)))"),
        ("f32", "(f32.demote_f64 (f64.load (i32.const 520)))"),
        ("f32", "(f32.mul (f32.const inf) (f32.load (i32.const 512)))"),
        ("v128", "(f64x2.add (v128.load (i32.const 520)) (v128.load (i32.const 512)))"),
        ("v128", "(f32x4.sqrt (v128.const f32x4 -1 -2 4 -0))"),
        ("v128", "(f32x4.pmin (v128.load (i32.const 520)) (v128.load (i32.const 524)))"),
        (
            "v128",
            "(f32x4.relaxed_madd (v128.load (i32.const 520)) (v128.load (i32.const 512)) (v128.load (i32.const 528)))",
        ),
        ("v128", "(i8x16.relaxed_swizzle (v128.load (i32.const 520)) (v128.load (i32.const 528)))"),
    ];
    for (kind, expression) in cases {
        let module = program(&format!(
            r#"(data (i32.const 520) "\01\02\03\04\05\06\f7\ff\aa\bb\cc\ff\ee\ff\f0\7f\00\11\22\33\44\55\66\77")
            (func (export "_start")
                ({kind}.store (i32.const 64) {expression})
                (call $print (i32.const 64) (i32.const 16)))"#
        ));
        let outcome = everywhere.run(&module, b"", PLENTY);
        assert_eq!(outcome.status, Status::Ok, "{expression}");
        if kind == "f64" && !expression.contains("min") {
            assert_eq!(outcome.output[..8], f64::to_le_bytes(f64::from_bits(0x7ff8 << 48)), "{expression}");
        }
    }
}

#[test]
fn a_start_function_runs_first_under_the_same_rules() {
    let everywhere = Everywhere::new();
    let module = |body: &str| {
        program(&format!(
            r#"(start $s) (func $s {body}) (func (export "_start") (call $print (i32.const 64) (i32.const 1)))"#
        ))
    };
    let outcome = everywhere.run(&module("(i32.store8 (i32.const 64) (i32.const 65))"), b"", PLENTY);
    assert_eq!((outcome.status, &outcome.output[..]), (Status::Ok, &b"A"[..]));
    assert_eq!(everywhere.run(&module("(loop $l (br $l))"), b"", 50_000).status, Status::OutOfFuel);
    assert_eq!(everywhere.run(&module("(call $s)"), b"", PLENTY).status, Status::StackLimit);
    assert_eq!(everywhere.run(&module("unreachable"), b"", PLENTY).status, Status::Failed);
    assert_eq!(everywhere.run(&module("(call $exit (i32.const 0))"), b"", PLENTY).output, b"");
}

#[test]
fn exceptions_work_where_the_engine_knows_them() {
    let everywhere = Everywhere::new();
    let module = program(
        r#"(tag $e (param i32))
        (func $throw (param i32) (throw $e (local.get 0)))
        (func (export "_start") (local $n i32)
            (loop $again
                (block $caught (result i32)
                    (try_table (catch $e $caught) (call $throw (local.get $n)))
                    unreachable)
                (local.set $n (i32.add (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 20000))))
            (i32.store (i32.const 64) (local.get $n))
            (call $print (i32.const 64) (i32.const 4)))"#,
    );
    let outcome = everywhere.run(&module, b"", PLENTY);
    assert_eq!((outcome.status, outcome.output), (Status::Ok, 20_000_u32.to_le_bytes().to_vec()));
    let refused = everywhere.try_load(EngineKind::Wasmi, &module).err();
    assert!(matches!(refused, Some(LoadError::Compile(CompileError::Unsupported { .. }))), "{refused:?}");

    let uncaught = program(r#"(tag $e) (func (export "_start") (throw $e))"#);
    assert_eq!(everywhere.run(&uncaught, b"", PLENTY).status, Status::Failed);
    // A host call that ends the program passes every handler by.
    let exit = program(
        r#"(func (export "_start")
            (block $caught (try_table (catch_all $caught) (call $exit (i32.const 0)))) (call $exit (i32.const 1)))"#,
    );
    assert_eq!(everywhere.run(&exit, b"", PLENTY).status, Status::Ok);
}

#[test]
fn a_program_sees_its_files() {
    let files = Files::new([("data/x".to_owned(), Arc::from(&b"contents"[..]))]).expect("a good path");
    let module = program(
        r#"(data (i32.const 512) "data/x")
        (func (export "_start")
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 6) (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 100))
            (if (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (call $print (i32.const 64) (i32.load (i32.const 8))))"#,
    );
    assert_eq!(Everywhere::with_files(files).run(&module, b"", PLENTY).output, b"contents");
}

#[test]
fn what_is_no_command_is_refused_by_every_engine() {
    let everywhere = Everywhere::new();
    for text in [
        "(module)",
        r#"(module (memory (export "_start") 1))"#,
        r#"(module (func (export "_start") (param i32)))"#,
        r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)) (func (export "_start")))"#,
        r#"(module (import "noria" "gemm" (func)) (func (export "_start")))"#,
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#,
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#,
    ] {
        for kind in EngineKind::ALL {
            let refused = everywhere.try_load(kind, &wat(text)).err();
            assert!(
                matches!(refused, Some(LoadError::Compile(CompileError::NotACommand(_)))),
                "{kind} {text}: {refused:?}"
            );
        }
    }
}

#[test]
fn what_is_no_module_is_refused_with_a_reason() {
    let everywhere = Everywhere::new();
    let good = start("");
    for bytes in [&b""[..], b"#!/bin/sh", &good[..good.len() - 3], &good[..20]] {
        for kind in EngineKind::ALL {
            assert!(matches!(everywhere.try_load(kind, bytes), Err(LoadError::Profile(_))));
        }
    }
}

#[test]
fn an_exception_bomb_ends_with_a_status() {
    let everywhere = Everywhere::new();
    let many = "i64 ".repeat(200);
    let arguments = "(i64.const 1) ".repeat(200);
    // Each holds the one before.
    let chain = program(&format!(
        r#"(tag $t (param exnref {many}))
        (func $throw (param exnref) (throw $t (local.get 0) {arguments}))
        (func (export "_start") (local $last exnref)
            (loop $again
                (local.set $last (block $out (result exnref)
                    (try_table (catch_all_ref $out) (call $throw (local.get $last))) unreachable))
                (br $again)))"#
    ));
    assert_eq!(everywhere.run(&chain, b"", 1 << 40).status, Status::Failed);
}
