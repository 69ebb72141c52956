//! Units without the sandbox: a module that only reads and writes, run by the engine as it is, without any rule.
//!
//! `cargo run --release --example bare MODULE` reads a line per unit, its input in hexadecimal, runs each in a fresh
//! instance, and answers each with its output in hexadecimal and the processor time that it took, in nanoseconds.

use std::io::{BufRead, Write};

use clock::processor_time;
use wasmtime::{Caller, Config, Engine, Extern, Linker, Module, OptLevel, Store};

#[path = "calibrate/clock.rs"]
mod clock;

#[derive(Default)]
struct Files {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The first of the parts that a call names: where it begins in the memory, and its length.
fn part(data: &[u8], at: usize) -> (usize, usize) {
    let word = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]) as usize;
    (word(at), word(at + 4))
}

fn files(linker: &mut Linker<Files>) -> Result<(), wasmtime::Error> {
    let host = "wasi_snapshot_preview1";
    linker.func_wrap(host, "fd_read", |mut caller: Caller<'_, Files>, _: i32, parts: i32, _: i32, done: i32| {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return 8 };
        let (data, files) = memory.data_and_store_mut(&mut caller);
        let (begin, length) = part(data, parts as usize);
        let count = length.min(files.input.len());
        data[begin..begin + count].copy_from_slice(&files.input[..count]);
        files.input.drain(..count);
        data[done as usize..done as usize + 4].copy_from_slice(&(count as u32).to_le_bytes());
        0
    })?;
    linker.func_wrap(host, "fd_write", |mut caller: Caller<'_, Files>, _: i32, parts: i32, _: i32, done: i32| {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return 8 };
        let (data, files) = memory.data_and_store_mut(&mut caller);
        let (begin, length) = part(data, parts as usize);
        files.output.extend_from_slice(&data[begin..begin + length]);
        data[done as usize..done as usize + 4].copy_from_slice(&(length as u32).to_le_bytes());
        0
    })?;
    linker.func_wrap(host, "proc_exit", |status: i32| -> Result<(), wasmtime::Error> {
        Err(wasmtime::Error::msg(format!("the program ended with {status}")))
    })?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: bare MODULE")?;
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed).relaxed_simd_deterministic(true);
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, std::fs::read(path)?)?;
    let mut linker = Linker::new(&engine);
    files(&mut linker)?;
    let ready = linker.instantiate_pre(&module)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let input = (0..line.len() / 2)
            .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16))
            .collect::<Result<_, _>>()?;
        let start = processor_time();
        let mut store = Store::new(&engine, Files { input, output: Vec::new() });
        let instance = ready.instantiate(&mut store)?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
        let spent = (processor_time() - start).as_nanos();
        let output: String = store.data().output.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{output} {spent}")?;
        out.flush()?;
    }
    Ok(())
}
