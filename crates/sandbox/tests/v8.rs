//! V8 as one more engine: what wasmtime did is recorded and done again by node. Runs where node is installed.

mod common;
mod everywhere;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arbitrary::Unstructured;
use common::{floats, wat};
use everywhere::modules::config;
use noria_sandbox::wasi::{Function, GuestMemory, Host, MOST_PARAMETERS, Meter};
use noria_sandbox::{
    COUNTER_EXPORT, NanRule, Options, START_EXPORT, Unit, fuel_of, instrument_with, program_id, set_fuel, with_fuel,
};
use wasmtime::{Caller, Config, Engine, Error, Extern, Func, Linker, Memory, Module, Store, Val};

/// Random modules of each kind, as many as here times what `NORIA_CASES` says.
const RANDOM: u64 = 40;

struct State {
    host: Host,
    limit: u64,
    calls: Vec<String>,
    stopped: bool,
}

fn bits(value: &Val) -> u64 {
    match value {
        Val::I32(value) => u64::from(value.cast_unsigned()),
        Val::I64(value) => value.cast_unsigned(),
        _ => unreachable!("host functions take integers"),
    }
}

/// A checksum of a memory that node can compute as well: FNV-1a over words.
fn digest(store: impl wasmtime::AsContext, memory: Option<Memory>) -> String {
    let Some(memory) = memory else { return String::new() };
    let words =
        memory.data(&store).chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
    let sum = words.fold(0x811c_9dc5_u32, |sum, word| (sum ^ word).wrapping_mul(0x0100_0193));
    sum.to_string()
}

/// Ranges in which two memories differ, as JSON.
fn writes(before: &[u8], after: &[u8]) -> String {
    let mut found = Vec::new();
    for (chunk, (old, new)) in before.chunks(256).zip(after.chunks(256)).enumerate() {
        if old != new {
            let hex: String = new.iter().map(|byte| format!("{byte:02x}")).collect();
            found.push(format!("[{}, \"{hex}\"]", chunk * 256));
        }
    }
    format!("[{}]", found.join(", "))
}

/// Runs a module on wasmtime and writes down what could be seen of it.
fn record(folder: &Path, name: &str, wasm: &[u8], entry: &str, input: &[u8], limit: u64) -> Result<(), Error> {
    let instrumented = instrument_with(wasm, Options { nan: NanRule::Injected, ..Options::default() })?;
    let mut settings = Config::new();
    settings.wasm_exceptions(true).max_wasm_stack(64 << 20).async_stack_size(65 << 20);
    let engine = Engine::new(&settings)?;
    let module = Module::new(&engine, &instrumented.bytes)?;
    let unit = Unit { program_id: program_id(wasm), input: Arc::from(input), fuel_limit: limit };
    let host = Host::new(&unit.id(), unit.input.clone(), Arc::default());
    let mut store = Store::new(&engine, State { host, limit, calls: Vec::new(), stopped: false });
    let mut linker = Linker::new(&engine);
    for import in module.imports() {
        let function = Function::find(import.module(), import.name()).expect("a known host function");
        let ty = import.ty().unwrap_func().clone();
        let host = Func::new(&mut store, ty, move |caller, given, results| call(caller, function, given, results));
        linker.define(&store, import.module(), import.name(), host).ok();
    }
    let mut end = "returned";
    let (mut left, mut memory, mut result) = (0, String::new(), String::new());
    if let Ok(instance) = linker.instantiate(&mut store, &module) {
        let counter = instance.get_global(&mut store, COUNTER_EXPORT).expect("a counter");
        let start = counter.get(&mut store).i64().expect("an integer") + with_fuel(limit.cast_signed());
        counter.set(&mut store, Val::I64(start))?;
        for name in [START_EXPORT, entry].into_iter().filter(|_| start >= 0) {
            let Some(function) = instance.get_func(&mut store, name) else { continue };
            let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
            if function.call(&mut store, &[], &mut results).is_err() {
                end = if store.data().stopped { "stopped" } else { "trapped" };
                break;
            }
            if let Some(Val::F64(value)) = results.first() {
                result = format!("{:?}", f64::from_bits(*value));
            }
        }
        left = counter.get(&mut store).i64().expect("an integer");
        let exported = instance.get_memory(&mut store, "memory");
        memory = digest(&store, exported);
    } else {
        end = "never began";
    }
    let entries: Vec<String> = [START_EXPORT, entry]
        .iter()
        .filter(|name| **name == entry || instrumented.info.start)
        .map(|name| format!("{name:?}"))
        .collect();
    let granted = with_fuel(limit.cast_signed());
    let json = format!(
        r#"{{"name": "{name}", "counter": "{COUNTER_EXPORT}",
        "granted": "{granted}", "entries": [{}], "end": "{end}", "left": "{left}",
        "memory": "{memory}", "result": "{result}", "calls": [{}]}}"#,
        entries.join(", "),
        store.data().calls.join(",\n")
    );
    std::fs::write(folder.join(format!("{name}.wasm")), &instrumented.bytes).expect("a writable folder");
    std::fs::write(folder.join(format!("{name}.json")), json).expect("a writable folder");
    Ok(())
}

/// One host call, as the engines of the sandbox do it, written down.
fn call(mut caller: Caller<'_, State>, function: Function, given: &[Val], results: &mut [Val]) -> Result<(), Error> {
    let counter = caller.get_export(COUNTER_EXPORT).and_then(Extern::into_global).expect("a counter");
    let before = counter.get(&mut caller).i64().expect("an integer");
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let seen = digest(&caller, memory);
    let mut arguments = [0; MOST_PARAMETERS];
    for (place, value) in arguments.iter_mut().zip(given) {
        *place = bits(value);
    }
    let mut nothing = Vec::new();
    let (bytes, state) = match memory {
        Some(memory) => memory.data_and_store_mut(&mut caller),
        None => (&mut nothing[..], caller.data_mut()),
    };
    let old = bytes.to_vec();
    let mut meter = Meter::new(state.limit - fuel_of(before).cast_unsigned(), state.limit);
    let answer = state.host.call(function, &arguments, &mut GuestMemory::new(bytes), &mut meter);
    let after = set_fuel(before, state.limit.checked_sub(meter.used()).map_or(-1, u64::cast_signed));
    let shown: Vec<String> = given.iter().map(|value| bits(value).to_string()).collect();
    let number = answer.as_ref().ok().map(|errno| i32::from(errno.number()));
    state.calls.push(format!(
        r#"{{"what": "{}({})", "before": "{before}", "after": "{after}", "memory": "{seen}", "writes": {}, "answer": {}}}"#,
        function.name(),
        shown.join(","),
        writes(&old, bytes),
        number.map_or("null".to_owned(), |number| number.to_string()),
    ));
    state.stopped |= answer.is_err();
    counter.set(&mut caller, Val::I64(after))?;
    let number = number.ok_or_else(|| Error::msg("the host stopped the program"))?;
    if let Some(result) = results.first_mut() {
        *result = Val::I32(number);
    }
    Ok(())
}

fn committed(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let kernels = read("benchmarks/kernels/kernels.wasm");
    for kernel in ["matmul_scalar", "matmul_simd", "mandelbrot", "sha256", "quicksort", "fib", "path_tracer"] {
        record(folder, kernel, &kernels, kernel, b"", 1 << 44).expect("it runs");
        record(folder, &format!("{kernel}_cut"), &kernels, kernel, b"", 20_000_000).expect("it runs");
    }
    let renderer = read("examples/render/pathtracer.wasm");
    record(folder, "renderer", &renderer, "_start", b"", 1 << 40).expect("it runs");
    let random = read("crates/sandbox/tests/modules/integers_of_a_nan.wasm");
    record(folder, "integers_of_a_nan", &random, "_start", b"some input", 200_000).expect("it runs");
}

fn random(folder: &Path) {
    let times: u64 = std::env::var("NORIA_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    for seed in 0..RANDOM * times {
        let mut bytes = vec![0; 20_000];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        let generated = wasm_smith::Module::new(config(false), &mut Unstructured::new(&bytes));
        let module = generated.map(|module| module.to_bytes()).ok();
        if let Some(module) = module.filter(|module| noria_sandbox::validate(module).is_ok()) {
            record(folder, &format!("random_{seed}"), &module, "_start", b"some input", 100_000).expect("it runs");
        }
        let module = wat(&floats::program(seed));
        record(folder, &format!("floats_{seed}"), &module, "run", b"", 100_000).expect("it runs");
    }
}

#[test]
fn v8_does_what_wasmtime_did() {
    if !Command::new("node").arg("--version").output().is_ok_and(|node| node.status.success()) {
        eprintln!("node is not installed: left out");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    // Frames of many locals need more stack than a test's thread has.
    std::thread::scope(|scope| {
        let work = || {
            committed(folder.path());
            random(folder.path());
        };
        std::thread::Builder::new().stack_size(128 << 20).spawn_scoped(scope, work).expect("a thread");
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/v8/replay.mjs");
    // Twice the stack that is used by default, for recursion that the stack counter ends.
    let node = Command::new("sh")
        .arg("-c")
        .arg("ulimit -s 200000 2>/dev/null; exec node --stack-size=150000 \"$@\"")
        .arg("node")
        .arg(script)
        .arg(folder.path())
        .output()
        .expect("node runs");
    let lines = String::from_utf8_lossy(&node.stdout).into_owned();
    let count =
        |outcome: &str| lines.lines().filter(|line| line.contains(&format!(r#""outcome":"{outcome}""#))).count();
    let different: Vec<&str> = lines.lines().filter(|line| line.contains(r#""outcome":"different""#)).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert!(node.status.success(), "{}", String::from_utf8_lossy(&node.stderr));
    let (same, unknown, machine) = (count("same"), count("unknown"), count("machine"));
    println!(
        "{same} the same; left out: {unknown} that this V8 does not know, {machine} for whom its stack is too small"
    );
    assert!(same >= 40 && same > 4 * (unknown + machine), "{same} {unknown} {machine}");
}
