//! What each rule costs: the kernels of a module without imports, plain and under the rules, on one engine.
//!
//! `cargo run --release --example kernels MODULE [RUNS]` calls each export that takes nothing and returns an `f64`, and
//! prints a JSON object for each of them and each set of rules: the best processor time, the result and the fuel. The sets take
//! turns, so that whatever disturbs the machine disturbs all of them.

use clock::processor_time;
use noria_sandbox::{COUNTER_EXPORT, Counter, NanRule, Options, fuel_of, instrument_with, with_fuel};
use wasmtime::{Config, Engine, Instance, Module, OptLevel, Store, Val};

#[path = "calibrate/clock.rs"]
mod clock;

const NOTHING: Options = Options { fuel: Counter::Off, stack: false, nan: NanRule::Engine };

/// Name, rules that are injected, and whether the compiler canonicalises NaNs.
const SETS: [(&str, Options, bool); 6] = [
    ("plain", NOTHING, false),
    ("fuel", Options { fuel: Counter::Local, ..NOTHING }, false),
    ("fuel and stack", Options { fuel: Counter::Local, stack: true, ..NOTHING }, false),
    ("fuel and NaN", Options { fuel: Counter::Local, nan: NanRule::Injected, ..NOTHING }, false),
    ("all", Options { fuel: Counter::Local, stack: true, nan: NanRule::Injected }, false),
    ("all, NaN by the compiler", Options { fuel: Counter::Local, stack: true, nan: NanRule::Engine }, true),
];

struct Variant {
    name: &'static str,
    store: Store<()>,
    instance: Instance,
    best: f64,
    result: f64,
    fuel: Option<i64>,
}

fn variant(
    wasm: &[u8],
    (name, options, by_compiler): (&'static str, Options, bool),
) -> Result<Variant, wasmtime::Error> {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(by_compiler)
        .relaxed_simd_deterministic(true)
        .wasm_exceptions(true);
    let engine = Engine::new(&config)?;
    let bytes = if name == "plain" { wasm.to_vec() } else { instrument_with(wasm, options)?.bytes };
    let module = Module::new(&engine, bytes)?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    Ok(Variant { name, store, instance, best: f64::INFINITY, result: 0.0, fuel: None })
}

const PLENTY: i64 = 1 << 44;

impl Variant {
    fn run(&mut self, kernel: &str) -> Result<(), wasmtime::Error> {
        let counter = self.instance.get_global(&mut self.store, COUNTER_EXPORT);
        if let Some(counter) = counter {
            counter.set(&mut self.store, Val::I64(with_fuel(PLENTY)))?;
        }
        let function = self.instance.get_typed_func::<(), f64>(&mut self.store, kernel)?;
        let start = processor_time();
        self.result = function.call(&mut self.store, ())?;
        self.best = self.best.min((processor_time() - start).as_nanos() as f64);
        self.fuel = counter.and_then(|counter| counter.get(&mut self.store).i64()).map(|left| PLENTY - fuel_of(left));
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: kernels MODULE [RUNS]")?;
    let runs = std::env::args().nth(2).map_or(Ok(5), |runs| runs.parse::<u32>())?;
    let wasm = std::fs::read(path)?;
    let mut variants = Vec::new();
    for set in SETS {
        variants.push(variant(&wasm, set)?);
    }
    let mut kernels = Vec::new();
    let Variant { instance, store, .. } = &mut variants[0];
    for export in instance.exports(store) {
        kernels.push(export.name().to_owned());
    }
    kernels.retain(|kernel| {
        let Variant { instance, store, .. } = &mut variants[0];
        instance.get_typed_func::<(), f64>(store, kernel).is_ok()
    });
    for kernel in kernels {
        for variant in &mut variants {
            variant.best = f64::INFINITY;
        }
        for _ in 0..runs {
            for variant in &mut variants {
                variant.run(&kernel)?;
            }
        }
        for Variant { name, best, result, fuel, .. } in &variants {
            let fuel = fuel.map_or("null".to_owned(), |fuel| fuel.to_string());
            println!(
                r#"{{"kernel": "{kernel}", "rules": "{name}", "ns": {best}, "result": {result:?}, "fuel": {fuel}}}"#
            );
        }
    }
    Ok(())
}
