//! Nanoseconds of single instructions, and of programs that try to be slow for little fuel.
//!
//! `cargo run --release --example calibrate [RUNS]` prints a JSON object for each: its name, the instruction it repeats (if it
//! measures one), how often, the best time and the fuel. Every program runs as a unit under all rules; the start of a
//! unit is measured too and taken off.

use std::sync::Arc;

use clock::processor_time;
use noria_sandbox::{EngineKind, Sandbox};

#[path = "calibrate/clock.rs"]
mod clock;
#[path = "calibrate/instructions.rs"]
mod instructions;
#[path = "calibrate/slow.rs"]
mod slow;

/// A program that repeats something.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    /// The instruction whose price this tells about.
    pub instruction: Option<&'static str>,
    /// Fields of the module beside `_start`: functions, tables, a memory unless there is a small one.
    pub fields: String,
    /// Before the loop.
    pub before: String,
    /// The loop's body; `copies` of it stand one after the other.
    pub body: String,
    pub copies: u32,
    pub turns: u32,
    /// What is repeated in the body, if more than one.
    pub each: u32,
    /// What happens before the loop belongs to it: the price of the first memory.
    pub whole: bool,
}

impl Case {
    fn text(&self) -> String {
        let memory = if self.fields.contains("(memory") { "" } else { r#"(memory (export "memory") 2)"# };
        let body = self.body.repeat(self.copies as usize);
        let (before, turns) = (&self.before, self.turns);
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            {memory} {fields}
            (func (export "_start")
                (local $turn i32) (local $i i32) (local $k i32) (local $j i64) (local $l i64)
                (local $x f32) (local $z f32) (local $y f64) (local $w f64) (local $v v128) (local $u v128)
                (i32.store (i32.const 64) (i32.const 3)) (i64.store (i32.const 72) (i64.const 3))
                (f64.store (i32.const 80) (f64.const 1.0000001)) (f32.store (i32.const 88) (f32.const 1.0001))
                (local.set $i (i32.load (i32.const 64))) (local.set $k (i32.load (i32.const 64)))
                (local.set $j (i64.load (i32.const 72))) (local.set $l (i64.load (i32.const 72)))
                (local.set $x (f32.load (i32.const 88))) (local.set $z (f32.load (i32.const 88)))
                (local.set $y (f64.load (i32.const 80))) (local.set $w (f64.load (i32.const 80)))
                (local.set $v (f64x2.splat (local.get $y))) (local.set $u (f64x2.splat (local.get $y)))
                {before}
                (local.set $turn (i32.const {turns}))
                (loop $again {body}
                    (br_if $again (local.tee $turn (i32.sub (local.get $turn) (i32.const 1)))))
                (i32.store (i32.const 64) (i32.add (local.get $i) (local.get $k)))
                (i64.store (i32.const 64) (i64.add (local.get $j) (local.get $l)))
                (f32.store (i32.const 64) (f32.add (local.get $x) (local.get $z)))
                (f64.store (i32.const 64) (f64.add (local.get $y) (local.get $w)))
                (v128.store (i32.const 64) (v128.xor (local.get $v) (local.get $u)))))"#,
            fields = self.fields,
        )
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runs = std::env::args().nth(1).map_or(Ok(3), |runs| runs.parse::<u32>())?;
    let only = std::env::args().nth(2);
    let cache = tempfile::tempdir()?;
    let sandbox = Sandbox::new(cache.path(), EngineKind::Wasmtime)?;
    let measure = |case: &Case| -> Result<(f64, u64), Box<dyn std::error::Error>> {
        let module = wat::parse_str(case.text()).map_err(|error| format!("{}: {error}", case.name))?;
        let program = sandbox.load(&module, Arc::default())?;
        let mut best = f64::INFINITY;
        let mut fuel = 0;
        for _ in 0..runs {
            let start = processor_time();
            let outcome = program.run(Arc::from([]), 1 << 50)?;
            best = best.min((processor_time() - start).as_nanos() as f64);
            fuel = outcome.fuel;
            if outcome.status != noria_sandbox::Status::Ok {
                return Err(format!("{}: {:?} {}", case.name, outcome.status, fuel).into());
            }
        }
        Ok((best, fuel))
    };
    let nothing = instructions::nothing();
    let (start_ns, start_fuel) = measure(&nothing)?;
    for case in instructions::all().into_iter().chain(slow::all()) {
        if only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
            continue;
        }
        let (ns, fuel) = measure(&case)?;
        // What comes before the loop is measured by a single turn of it.
        let (turns, ns, fuel) = if case.turns > 1 && !case.whole {
            let (once_ns, once_fuel) = measure(&Case { turns: 1, ..case.clone() })?;
            (case.turns - 1, ns - once_ns, fuel - once_fuel)
        } else {
            (case.turns, ns - start_ns, fuel - start_fuel)
        };
        let instruction = case.instruction.map_or("null".to_owned(), |name| format!("\"{name}\""));
        println!(
            r#"{{"name": "{}", "instruction": {instruction}, "times": {}, "ns": {}, "fuel": {}}}"#,
            case.name,
            u64::from(turns) * u64::from(case.copies) * u64::from(case.each),
            ns.max(0.0),
            fuel,
        );
    }
    Ok(())
}
