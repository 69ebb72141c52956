//! Random modules that call their host with random arguments: every engine agrees on everything.

mod everywhere;

use arbitrary::Unstructured;
use everywhere::{Everywhere, wat};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wasm_smith::{Config, Module};

/// What a program of the profile exports.
const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

const IMPORTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;

fn config(exceptions: bool) -> Config {
    Config {
        exports: Some(wat(EXPORTS)),
        available_imports: Some(wat(IMPORTS)),
        allow_start_export: true,
        custom_page_sizes_enabled: false,
        exceptions_enabled: exceptions,
        extended_const_enabled: false,
        gc_enabled: false,
        max_data_segments: 4,
        max_element_segments: 4,
        max_exports: 2,
        max_funcs: 12,
        max_globals: 10,
        max_instructions: 1_000,
        max_memory32_bytes: 4 << 16,
        max_table_elements: 100,
        max_tables: 2,
        max_types: 20,
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

/// Random bytes that are too long to be shown.
#[derive(Clone)]
struct Seed(Vec<u8>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes with the hash {}", self.0.len(), blake3::hash(&self.0))
    }
}

fn seed() -> impl Strategy<Value = Seed> {
    (any::<u64>(), 1_000_usize..20_000).prop_map(|(start, length)| {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&start.to_le_bytes()).finalize_xof().fill(&mut bytes);
        Seed(bytes)
    })
}

/// As with the Python properties, CI sees the same examples on every run; elsewhere each run sees others. `NORIA_CASES`
/// says how many times as many.
fn examples() -> ProptestConfig {
    let times = std::env::var("NORIA_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let rng_seed = if std::env::var_os("CI").is_some() { RngSeed::Fixed(1) } else { RngSeed::Random };
    let cases = 100_u32.saturating_mul(times);
    ProptestConfig { cases, max_shrink_iters: 0, failure_persistence: None, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(examples())]

    #[test]
    fn every_engine_agrees_on_random_modules(seed in seed(), exceptions in any::<bool>(), limit in 0_u64..400_000) {
        let Ok(module) = Module::new(config(exceptions), &mut Unstructured::new(&seed.0)) else { return Ok(()) };
        let module = module.to_bytes();
        // Some of what is generated lies outside the profile.
        if noria_sandbox::validate(&module).is_ok() {
            Everywhere::new().run(&module, b"some input", limit);
        }
    }
}

#[test]
fn every_engine_agrees_on_modules_that_once_told_them_apart() {
    // A vector of floats that `f64x2.convert_low_i32x4_s` takes for integers.
    Everywhere::new().run(include_bytes!("modules/integers_of_a_nan.wasm"), b"some input", 200_000);
}
