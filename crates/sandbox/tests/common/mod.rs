//! Runs modules on wasmtime, and rewrites them in the most naive way to have something to compare with.

#![allow(dead_code)] // each test program uses its part

pub mod floats;
pub mod naive;

use std::sync::LazyLock;

use noria_sandbox::{
    COUNTER_EXPORT, Options, STACK_MAX, START_EXPORT, fuel_of, instrument_with, set_fuel, stack_of, with_fuel,
};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use wasmtime::{Caller, Config, Engine, Extern, Func, Instance, Linker, Module, Store, Trap, Val, ValType};

/// What one call into a module left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Results as bits, or nothing after a trap.
    pub results: Option<Vec<u128>>,
    /// What the fuel counter said, if the module has one.
    pub fuel_left: Option<i64>,
    /// What is left of the stack rule, if the module counts it; negative if too little was there.
    pub stack_left: Option<i64>,
    /// The thread's own stack was too small, which says nothing about the module.
    pub machine_failed: bool,
    /// All bytes of the memory.
    pub memory: Vec<u8>,
    /// What host functions saw: the first argument and the fuel counter.
    pub host_calls: Vec<(i64, i64)>,
}

impl End {
    pub fn trapped(&self) -> bool {
        self.results.is_none()
    }

    /// The fuel used of `limit`; nothing if there was not enough.
    pub fn used(&self, limit: i64) -> Option<i64> {
        let left = self.fuel_left.expect("the module counts fuel");
        (left >= 0).then_some(limit - left)
    }
}

/// A module ready to be called.
pub struct Guest {
    store: Store<Vec<(i64, i64)>>,
    instance: Instance,
}

impl Guest {
    /// Instantiates a module; every function it imports notes that it was called, takes 7 fuel and returns zeroes.
    pub fn new(wasm: &[u8]) -> Self {
        Self::try_new(wasm).expect("the module instantiates")
    }

    pub fn try_new(wasm: &[u8]) -> Result<Self, wasmtime::Error> {
        let engine = engine();
        let module = Module::new(&engine, wasm)?;
        let mut store = Store::new(&engine, Vec::new());
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            let ty = import.ty().unwrap_func().clone();
            let zeroes: Vec<Val> = ty.results().map(|ty| zero(&ty)).collect();
            let host =
                Func::new(&mut store, ty, move |mut caller: Caller<'_, Vec<(i64, i64)>>, parameters, results| {
                    let first = match parameters.first() {
                        Some(Val::I32(value)) => i64::from(*value),
                        Some(Val::I64(value)) => *value,
                        _ => 0,
                    };
                    let ours = caller.get_export(COUNTER_EXPORT).and_then(Extern::into_global);
                    let counter = ours.or_else(|| caller.get_export(naive::FUEL_EXPORT).and_then(Extern::into_global));
                    let fuel = counter.map_or(0, |counter| {
                        let value = counter.get(&mut caller).i64().expect("the counter is an i64");
                        let fuel = if ours.is_some() { fuel_of(value) } else { value };
                        let rest = if ours.is_some() { set_fuel(value, fuel - 7) } else { fuel - 7 };
                        counter.set(&mut caller, Val::I64(rest)).expect("the counter is mutable");
                        fuel
                    });
                    caller.data_mut().push((first, fuel));
                    results.clone_from_slice(&zeroes);
                    Ok(())
                });
            linker.define(&store, import.module(), import.name(), host).ok();
        }
        let instance = linker.instantiate(&mut store, &module)?;
        Ok(Self { store, instance })
    }

    /// Calls an export with zeroes, or with `arguments`, after granting `fuel`.
    pub fn call(&mut self, name: &str, arguments: &[Val], fuel: i64) -> End {
        self.set(naive::FUEL_EXPORT, fuel);
        self.set(COUNTER_EXPORT, with_fuel(fuel));
        let function = self.instance.get_func(&mut self.store, name).unwrap_or_else(|| panic!("no export {name}"));
        let ty = function.ty(&self.store);
        let zeroes: Vec<Val> = ty.params().map(|ty| zero(&ty)).collect();
        let arguments = if arguments.is_empty() { &zeroes } else { arguments };
        let mut results: Vec<Val> = ty.results().map(|ty| zero(&ty)).collect();
        let done = function.call(&mut self.store, arguments, &mut results);
        let trap = done.as_ref().err().and_then(|error| error.downcast_ref::<Trap>());
        let machine_failed = trap == Some(&Trap::StackOverflow);
        let memory = self.instance.exports(&mut self.store).find_map(|export| export.into_memory());
        let counter = self.get(COUNTER_EXPORT);
        let used = counter.map(stack_of);
        assert!(done.is_err() || used.is_none_or(|used| used == 0), "{used:?} stack units are left in use");
        End {
            results: done.is_ok().then(|| results.iter().map(bits).collect()),
            fuel_left: counter.map(fuel_of).or_else(|| self.get(naive::FUEL_EXPORT)),
            stack_left: used.map(|used| STACK_MAX.cast_signed() - used.cast_signed()),
            machine_failed,
            memory: memory.map_or_else(Vec::new, |memory| memory.data(&self.store).to_vec()),
            host_calls: std::mem::take(self.store.data_mut()),
        }
    }

    /// Names of the exported functions that the program itself exports.
    pub fn functions(&mut self) -> Vec<String> {
        let exports =
            self.instance.exports(&mut self.store).map(|export| (export.name().to_owned(), export.into_func()));
        let functions = exports.filter(|(_, function)| function.is_some());
        let mut names: Vec<String> = functions.map(|(name, _)| name).collect();
        names.retain(|name| name != START_EXPORT);
        names.sort();
        names
    }

    pub fn has(&mut self, function: &str) -> bool {
        self.instance.get_func(&mut self.store, function).is_some()
    }

    fn get(&mut self, name: &str) -> Option<i64> {
        self.instance.get_global(&mut self.store, name)?.get(&mut self.store).i64()
    }

    fn set(&mut self, name: &str, value: i64) {
        if let Some(global) = self.instance.get_global(&mut self.store, name) {
            global.set(&mut self.store, Val::I64(value)).expect("counters are mutable");
        }
    }
}

fn engine() -> Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let mut config = Config::new();
        config.wasm_exceptions(true).relaxed_simd_deterministic(true).max_wasm_stack(1 << 20);
        config.cranelift_opt_level(wasmtime::OptLevel::None);
        Engine::new(&config).expect("the engine starts")
    });
    ENGINE.clone()
}

fn zero(ty: &ValType) -> Val {
    ty.default_value().expect("every type of the profile has a zero")
}

fn bits(value: &Val) -> u128 {
    match value {
        Val::I32(value) => *value as u32 as u128,
        Val::I64(value) => *value as u64 as u128,
        Val::F32(bits) => u128::from(*bits),
        Val::F64(bits) => u128::from(*bits),
        Val::V128(value) => value.as_u128(),
        _ => 0,
    }
}

/// How many random examples: as many as here, times what `NORIA_CASES` says. CI sees the same ones on every run.
pub fn cases(number: u32) -> ProptestConfig {
    let times = std::env::var("NORIA_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let rng_seed = if std::env::var_os("CI").is_some() { RngSeed::Fixed(1) } else { RngSeed::Random };
    ProptestConfig {
        cases: number.saturating_mul(times),
        max_shrink_iters: 200,
        failure_persistence: None,
        rng_seed,
        ..ProptestConfig::default()
    }
}

pub const PLENTY: i64 = 1_000_000_000;

pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's module is well-formed")
}

/// Instruments a module in text form and calls `run` in it.
pub fn run(text: &str, fuel: i64) -> End {
    run_with(text, fuel, Options::default())
}

pub fn run_with(text: &str, fuel: i64, options: Options) -> End {
    let module = instrument_with(&wat(text), options).expect("the module is accepted");
    wasmparser::validate(&module.bytes).expect("what is written is valid");
    Guest::new(&module.bytes).call("run", &[], fuel)
}
