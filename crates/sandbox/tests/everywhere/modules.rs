//! Random modules that call their host with random arguments.

use wasm_smith::Config;

use super::wat;

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

pub fn config(exceptions: bool) -> Config {
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
