//! What is refused, and how the refusal names it.

mod common;

use common::wat;
use noria_sandbox::{
    CODE_MAX, FUNCTION_MAX, NanRule, Options, ProfileError, RESERVED_PREFIX, instrument, instrument_with, validate,
};

fn refusal(text: &str) -> ProfileError {
    let module = wat(text);
    instrument(&module).map(|_| ()).expect_err(text)
}

#[test]
fn every_feature_that_is_off_is_named() {
    for (text, name) in [
        ("(module (func $f (return_call $f)))", "tail calls"),
        (
            "(module (type $t (func)) (table 1 funcref) (func (return_call_indirect (type $t) (i32.const 0))))",
            "tail calls",
        ),
        ("(module (memory 1 1 shared))", "shared memories"),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads and atomics"),
        ("(module (func (atomic.fence)))", "threads and atomics"),
        ("(module (memory i64 1))", "64-bit memories"),
        ("(module (table i64 1 funcref))", "64-bit tables"),
        ("(module (memory 1) (memory 1))", "several memories"),
        ("(module (memory 1 (pagesize 1)))", "custom page sizes"),
        ("(module (type (struct)))", "garbage-collected types"),
        ("(module (func (drop (ref.i31 (i32.const 1)))))", "garbage-collected types"),
        ("(module (type $t (func)) (func (param (ref $t))))", "typed function references"),
        ("(module (type $t (func)) (func (call_ref $t (ref.null $t))))", "typed function references"),
        (
            "(module (func (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)) drop drop))",
            "wide arithmetic",
        ),
        ("(module (global i32 (i32.add (i32.const 1) (i32.const 2))))", "extended constant"),
        ("(module (func try end))", "legacy exceptions"),
    ] {
        let error = refusal(text);
        assert!(matches!(error, ProfileError::Feature { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(name), "{text}: {error}");
    }
}

#[test]
fn what_is_on_is_accepted() {
    for text in [
        "(module (func (result i32 i64) (i32.const 1) (i64.const 2)))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))",
        "(module (func (drop (i32.extend8_s (i32.const 1))) (drop (i32.trunc_sat_f32_s (f32.const 1)))))",
        "(module (table 1 externref) (table 1 funcref) (func (drop (table.get 1 (i32.const 0)))))",
        "(module (tag $t) (func (block $b (result exnref) (try_table (catch_all_ref $b)) (unreachable)) (throw_ref)))",
    ] {
        validate(&wat(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let info =
        validate(&wat("(module (func (param v128 v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))))"));
    assert!(info.as_ref().unwrap().relaxed_simd && info.unwrap().simd);
}

#[test]
fn bytes_that_are_no_module() {
    for bytes in [&b""[..], b"\0", b"\0asm", b"\0asm\x02\0\0\0", b"PK\x03\x04", b"(module)", b"\0asm\x0d\0\x01\0"] {
        let error = instrument(bytes).unwrap_err();
        assert!(matches!(error, ProfileError::NotWebAssembly { .. }), "{bytes:?}: {error:?}");
    }
}

#[test]
fn every_truncation_is_refused_or_harmless() {
    let module = wat(r#"(module (memory (export "memory") 1) (data (i32.const 0) "abc") (func (export "run")
        (loop (br_if 0 (i32.load (i32.const 0))))))"#);
    instrument(&module).unwrap();
    for length in 0..module.len() {
        if let Ok(done) = instrument(&module[..length]) {
            wasmparser::validate(&done.bytes).unwrap();
        }
    }
    let error = instrument(&module[..module.len() - 3]).unwrap_err();
    assert!(matches!(error, ProfileError::Invalid { .. }), "{error}");
}

#[test]
fn invalid_code_names_its_function_and_place() {
    let error = refusal("(module (func) (func (result i32) (i64.const 1)))");
    assert!(matches!(error, ProfileError::Invalid { function: Some(1), .. }), "{error:?}");
    assert!(error.to_string().contains("function 1"), "{error}");
}

#[test]
fn reserved_exports_are_refused() {
    for name in ["fuel", "stack", "start", "", "anything"] {
        let text = format!(r#"(module (global (export "{RESERVED_PREFIX}{name}") (mut i64) (i64.const 0)))"#);
        assert!(matches!(refusal(&text), ProfileError::ReservedExport { .. }));
    }
}

#[test]
fn imports_come_from_the_host_only() {
    for text in [
        r#"(module (import "env" "f" (func)))"#,
        r#"(module (import "wasi_snapshot_preview1" "memory" (memory 1)))"#,
        r#"(module (import "noria" "g" (global i32)))"#,
        r#"(module (import "noria" "t" (table 1 funcref)))"#,
        r#"(module (import "noria" "t" (tag)))"#,
        r#"(module (import "noria" "f" (func (param f64))))"#,
        r#"(module (import "noria" "f" (func (result v128))))"#,
        r#"(module (import "noria" "f" (func (param externref))))"#,
    ] {
        assert!(matches!(refusal(text), ProfileError::Import { .. }), "{text}");
    }
}

#[test]
fn limits_are_named() {
    let many = |what: &str, count: usize| what.repeat(count);
    for (text, what) in [
        (format!("(module (func (local {})))", many("i32 ", 50_001)), "locals"),
        (format!("(module (func (local {})))", many("i32 ", 49_990)), "locals"),
        (format!("(module (func {} {}))", many("block ", 4_200), many("end ", 4_200)), "nested blocks"),
        (format!("(module {})", many("(table 1 funcref)", 9)), "tables"),
        (format!("(module (func (param {})))", many("i32 ", 257)), "parameters"),
        (format!("(module (func {} unreachable))", many("i32.const 1 ", 17_000)), "operands"),
        (format!("(module {})", many(r#"(import "noria" "f" (func))"#, 1_001)), "imports"),
        (format!("(module {})", many("(type (func))", 50_001)), "types"),
        (format!("(module {})", many("(global i32 (i32.const 0))", 1_000_000)), "globals"),
        (format!("(module {})", many("(elem func)", 100_000)), "element segments"),
    ] {
        let error = refusal(&text);
        let named = matches!(error, ProfileError::Limit { .. } | ProfileError::Invalid { .. });
        assert!(named && error.to_string().contains(what), "{what}: {error}");
    }
}

#[test]
fn what_is_at_a_limit_still_fits_with_what_is_added() {
    let many = |what: &str, count: usize| what.repeat(count);
    for text in [
        format!("(module {} (func))", many("(type (func (param i32) (result i32 i64)))", 49_999)),
        format!("(module (func) {})", many("(global i32 (i32.const 0))", 999_999)),
        format!(r#"(module (func $f (export "f") (drop (ref.func $f))) {})"#, many("(elem func)", 99_999)),
        format!("(module (func (param {}) (local {})))", many("i32 ", 256), many("i32 ", 49_728)),
        format!("(module (func (result {}) unreachable))", many("i32 ", 64)),
    ] {
        let done = instrument(&wat(&text)).unwrap();
        wasmparser::validate(&done.bytes).unwrap();
    }
}

/// A module of functions whose bodies are these bytes.
fn of_bodies(bodies: &[&[u8]], results: &[wasm_encoder::ValType]) -> Vec<u8> {
    let mut types = wasm_encoder::TypeSection::new();
    types.ty().function([], results.iter().copied());
    let mut functions = wasm_encoder::FunctionSection::new();
    let mut code = wasm_encoder::CodeSection::new();
    for body in bodies {
        functions.function(0);
        let mut function = wasm_encoder::Function::new([]);
        function.raw(body.iter().copied()).raw([0x0b]);
        code.function(&function);
    }
    let mut module = wasm_encoder::Module::new();
    module.section(&types).section(&functions).section(&code);
    module.finish()
}

#[test]
fn a_function_that_grows_past_the_engines_limit_is_refused() {
    // Three bytes a time, and each loop needs a look at the limit.
    let error = instrument(&of_bodies(&[&[0x03, 0x40, 0x0b].repeat(1_000_000)], &[])).unwrap_err();
    assert!(matches!(error, ProfileError::Limit { function: Some(0), limit: FUNCTION_MAX, .. }), "{error:?}");
}

#[test]
fn limits_are_the_same_whoever_applies_the_nan_rule() {
    // `0.0; sqrt; drop` with and without injected code: sqrt is seen by nobody, `i32.reinterpret_f32` sees it.
    let unseen = [&[0x43, 0, 0, 0, 0, 0x91, 0x1a], &[0x01][..]].concat().repeat(400_000);
    let seen = [0x43, 0, 0, 0, 0, 0x91, 0xbc, 0x1a].repeat(400_000);
    for nan in [NanRule::Engine, NanRule::Injected] {
        let options = Options { nan, ..Options::default() };
        instrument_with(&of_bodies(&[&unseen], &[]), options).unwrap();
        let error = instrument_with(&of_bodies(&[&seen], &[]), options).unwrap_err();
        assert!(matches!(error, ProfileError::Limit { limit: FUNCTION_MAX, .. }), "{nan:?}: {error:?}");
    }
}

#[test]
fn all_code_together_has_a_limit() {
    // A dead `return` is one byte, and more than ten when it pays and gives the counter back.
    let body = [&[0x00][..], &vec![0x0f; 450_000]].concat();
    let bodies: Vec<&[u8]> = (0..250).map(|_| &body[..]).collect();
    assert!(instrument(&of_bodies(&bodies[..1], &[])).is_ok());
    let error = instrument(&of_bodies(&bodies, &[])).unwrap_err();
    assert!(matches!(error, ProfileError::Limit { limit: CODE_MAX, .. }), "{error:?}");
}

#[test]
fn tables_keep_their_type() {
    for ty in ["funcref", "externref", "exnref", "nullexnref"] {
        let text = format!(
            r#"(module (table $t 1 {ty}) (func (export "run") (table.set $t (i32.const 0) (table.get $t (i32.const 0)))))"#
        );
        let done = instrument(&wat(&text)).unwrap();
        wasmparser::validate(&done.bytes).expect(ty);
    }
}

#[test]
fn beginnings_beyond_the_limit_are_reported_and_cut() {
    for text in ["(module (memory 16385))", "(module (table 1000001 funcref))"] {
        let done = instrument(&wat(text)).unwrap();
        assert!(done.info.initial_beyond_limit, "{text}");
        wasmparser::validate(&done.bytes).unwrap();
    }
    for text in ["(module (memory 16384))", "(module (table 1000000 funcref))", "(module)"] {
        assert!(!instrument(&wat(text)).unwrap().info.initial_beyond_limit, "{text}");
    }
}

#[test]
fn the_same_module_gives_the_same_bytes() {
    let text = r#"(module (func (export "a")) (func (export "b") (loop (br_if 0 (i32.const 0)))))"#;
    assert_eq!(instrument(&wat(text)).unwrap(), instrument(&wat(text)).unwrap());
}

#[test]
fn a_module_that_only_names_exceptions_uses_them() {
    for (text, expected) in [
        (r#"(module (func (param exnref)))"#, true),
        (r#"(module (func (result exnref) (unreachable)))"#, true),
        (r#"(module (func (local exnref)))"#, true),
        (r#"(module (table 1 exnref))"#, true),
        (r#"(module (global exnref (ref.null exn)))"#, true),
        (r#"(module (func (drop (ref.null exn))))"#, true),
        (r#"(module (func (drop (block (result exnref) (unreachable)))))"#, true),
        (r#"(module (elem declare exnref (ref.null exn)))"#, true),
        (r#"(module (func (unreachable) (select (result exnref)) (drop)))"#, true),
        (r#"(module (func (param externref) (local funcref)) (table 1 externref))"#, false),
    ] {
        let info = noria_sandbox::validate(&wat::parse_str(text).unwrap()).unwrap();
        assert_eq!(info.exceptions, expected, "{text}");
    }
}
