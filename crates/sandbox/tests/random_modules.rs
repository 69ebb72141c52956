//! Random modules that call their host with random arguments: every engine agrees on everything.

mod everywhere;

use arbitrary::Unstructured;
use everywhere::Everywhere;
use everywhere::modules::config;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wasm_smith::Module;

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
