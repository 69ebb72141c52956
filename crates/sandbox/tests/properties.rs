//! Random modules: what is written is valid, computes the same, and costs what a naive count says.

mod common;

use arbitrary::Unstructured;
use common::naive::{self, Naive};
use common::{End, Guest};
use noria_sandbox::{Counter, Instrumented, NanRule, Options, instrument, instrument_with};
use proptest::prelude::*;
use wasm_smith::Config;

const FUEL: i64 = 20_000;

/// What a module may import: each takes fuel of its own.
const IMPORTS: &str = r#"(module
    (import "noria" "a" (func))
    (import "noria" "b" (func (param i32) (result i32)))
    (import "noria" "c" (func (param i64 i32) (result i64 i32))))"#;

/// Everything of the profile; exceptions where the naive count is not asked: it does not pay for the rest of a block that a
/// callee leaves by throwing.
fn config(traps: bool, exceptions: bool) -> Config {
    Config {
        disallow_traps: !traps,
        allow_start_export: true,
        custom_page_sizes_enabled: false,
        exceptions_enabled: exceptions,
        export_everything: true,
        extended_const_enabled: false,
        gc_enabled: false,
        available_imports: Some(common::wat(IMPORTS)),
        max_imports: 3,
        max_data_segments: 4,
        max_element_segments: 4,
        max_exports: 40,
        max_funcs: 12,
        max_globals: 10,
        max_instructions: 1_000,
        max_types: 20,
        max_memory32_bytes: 4 << 16,
        max_table_elements: 100,
        max_tables: 2,
        memory64_enabled: false,
        min_funcs: 2,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        simd_enabled: true,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

fn module(bytes: &[u8], exceptions: bool) -> Option<Vec<u8>> {
    let mut random = Unstructured::new(&bytes[1..]);
    Some(wasm_smith::Module::new(config(bytes[0] < 64, exceptions), &mut random).ok()?.to_bytes())
}

/// Rewrites a module, and checks that an engine would take it.
fn rewrite(module: &[u8], options: Options) -> Instrumented {
    let done = instrument_with(module, options).expect("wasm-smith stays within the profile");
    wasmparser::validate(&done.bytes).expect("what is written is valid");
    done
}

/// Calls all exported functions in turn on one instance; stops after the first that one of our rules ends, since what it
/// left behind depends on where it stopped. A module that cannot be instantiated ends before it begins.
fn call_all(wasm: &[u8], start: &str) -> Vec<End> {
    let Ok(mut guest) = Guest::try_new(wasm) else { return Vec::new() };
    let mut ends = Vec::new();
    let mut names = guest.functions();
    names.retain(|name| name != "start");
    if guest.has(start) {
        names.insert(0, start.to_owned());
    }
    for name in names {
        let end = guest.call(&name, &[], FUEL);
        if end.machine_failed {
            break;
        }
        let last = [end.fuel_left, end.stack_left].iter().flatten().any(|left| *left < 0);
        ends.push(end);
        if last {
            break;
        }
    }
    ends
}

/// What of an end counts: beyond the fuel limit not how far beyond, nor who found out.
fn seen(end: &End) -> End {
    let beyond = end.fuel_left < Some(0);
    End {
        fuel_left: if beyond { Some(-1) } else { end.fuel_left },
        stack_left: if beyond { None } else { end.stack_left },
        ..end.clone()
    }
}

/// Seed of a module; too long to be shown when a test fails.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let module = module(&self.0, true).unwrap_or_default();
        let path = std::env::temp_dir().join(format!("noria-sandbox-{:?}.wasm", std::thread::current().id()));
        std::fs::write(&path, module).ok();
        write!(out, "the module in {}", path.display())
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 1_000..30_000).prop_map(Bytes)
}

proptest! {
    #![proptest_config(common::cases(300))]

    #[test]
    fn fuel_is_the_naive_count(bytes in bytes()) {
        let Some(module) = module(&bytes.0, false) else { return Ok(()) };
        let ours = call_all(&rewrite(&module, Options::default()).bytes, noria_sandbox::START_EXPORT);
        let naive = call_all(&naive::rewrite(&module, Naive { fuel: true, nan: false }), "start");
        for (ours, naive) in ours.iter().zip(&naive) {
            match (ours.used(FUEL), naive.used(FUEL)) {
                (Some(used), Some(count)) if ours.trapped() && ours.stack_left >= Some(0) => {
                    // The rest of the block in which it trapped is paid for, too.
                    prop_assert!(naive.trapped() && used >= count && used <= count + 10_000, "{used} {count}");
                }
                (Some(_), _) if ours.trapped() => prop_assert!(ours.stack_left < Some(0)),
                (Some(used), count) => prop_assert_eq!(Some(used), count),
                (None, count) => prop_assert!(count.is_none_or(|_| naive.trapped())),
            }
            if ours.used(FUEL).is_some() && ours.stack_left >= Some(0) {
                prop_assert_eq!(&ours.results, &naive.results);
                prop_assert_eq!(&ours.memory, &naive.memory);
                prop_assert_eq!(ours.host_calls.len(), naive.host_calls.len());
            }
        }
    }

    #[test]
    fn the_counter_in_a_local_is_the_counter_in_the_global(bytes in bytes()) {
        let Some(module) = module(&bytes.0, true) else { return Ok(()) };
        let local = call_all(&rewrite(&module, Options::default()).bytes, noria_sandbox::START_EXPORT);
        let options = Options { fuel: Counter::Global, ..Options::default() };
        let global = call_all(&rewrite(&module, options).bytes, noria_sandbox::START_EXPORT);
        // Everything: also the fuel at a trap in the middle of a block, and what each host call saw.
        prop_assert!(local.iter().zip(&global).all(|(local, global)| seen(local) == seen(global)), "{local:?} {global:?}");
    }

    #[test]
    fn nothing_else_changes(bytes in bytes()) {
        let Some(module) = module(&bytes.0, true) else { return Ok(()) };
        let ours = call_all(&rewrite(&module, Options::default()).bytes, noria_sandbox::START_EXPORT);
        if ours.iter().any(|end| end.used(FUEL).is_none() || end.stack_left < Some(0)) {
            return Ok(()); // may never end without our rules
        }
        let plain = Options { fuel: Counter::Off, stack: false, nan: NanRule::Engine };
        let plain = call_all(&rewrite(&module, plain).bytes, noria_sandbox::START_EXPORT);
        for (ours, plain) in ours.iter().zip(&plain) {
            prop_assert_eq!(&ours.results, &plain.results);
            prop_assert_eq!(&ours.memory, &plain.memory);
        }
    }

    #[test]
    fn canonical_nans_late_are_canonical_nans_at_once(bytes in bytes()) {
        let Some(module) = module(&bytes.0, false) else { return Ok(()) };
        let options = Options { nan: NanRule::Injected, ..Options::default() };
        let ours = call_all(&rewrite(&module, options).bytes, noria_sandbox::START_EXPORT);
        let naive = call_all(&naive::rewrite(&module, Naive { fuel: true, nan: true }), "start");
        for (ours, naive) in ours.iter().zip(&naive) {
            if ours.used(FUEL).is_some() && ours.stack_left >= Some(0) {
                prop_assert_eq!(&ours.results, &naive.results);
                prop_assert_eq!(&ours.memory, &naive.memory);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_rewritten(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        instrument(&bytes).ok();
        for (at, byte) in b"\0asm\x01\0\0\0".iter().enumerate().take(bytes.len()) {
            bytes[at] = *byte;
        }
        instrument(&bytes).ok();
    }

    #[test]
    fn damaged_modules_are_refused_or_rewritten(bytes in bytes(), damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let Some(mut module) = module(&bytes.0, true) else { return Ok(()) };
        for (at, byte) in damage {
            let at = usize::from(at) % module.len();
            module[at] = byte;
        }
        for nan in [NanRule::Engine, NanRule::Injected] {
            if let Ok(done) = instrument_with(&module, Options { nan, ..Options::default() }) {
                wasmparser::validate(&done.bytes).expect("what is written is valid");
            }
        }
    }
}
