//! What it costs to start: an engine, a program from the cache, a unit. `cargo run --release --example start [FILE]`
//! takes a program of yours instead of a trivial one; its input is empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use noria_sandbox::{EngineKind, Sandbox};

/// `(module (memory (export "memory") 16) (func (export "_start")))`
const TRIVIAL: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x10\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

const UNITS: usize = 200;

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = std::env::args_os().nth(1).map_or_else(|| Ok(TRIVIAL.to_vec()), std::fs::read)?;
    let cache = tempfile::tempdir()?;
    println!(
        "{:10} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "engine", "start", "first load", "cached load", "unit p50", "unit p99"
    );
    for kind in EngineKind::ALL {
        let (sandbox, start) = timed(|| Sandbox::new(cache.path(), kind));
        let sandbox = sandbox?;
        let (loaded, first) = timed(|| sandbox.load(&module, Arc::default()));
        if let Err(error) = loaded {
            println!("{:10} {error}", kind.name());
            continue;
        }
        let (program, cached) = timed(|| sandbox.load(&module, Arc::default()));
        let program = program?;
        let mut units = Vec::new();
        for _ in 0..UNITS {
            let (outcome, time) = timed(|| program.run(Arc::from([]), 1_000_000_000));
            outcome?;
            units.push(time);
        }
        units.sort();
        let (p50, p99) = (units[UNITS / 2], units[UNITS * 99 / 100]);
        println!("{:10} {start:>12.1?} {first:>12.1?} {cached:>12.1?} {p50:>12.1?} {p99:>12.1?}", kind.name());
    }
    Ok(())
}
