//! The NaN rule, injected: canonical bits wherever they can be seen, and a loaded payload untouched.

mod common;

use common::naive::{self, Naive};
use common::{Guest, PLENTY, floats, run_with, wat};
use noria_sandbox::{NanRule, Options, instrument_with};
use proptest::prelude::*;

fn bits(result: &str, body: &str) -> u128 {
    let text = format!(
        r#"(module (memory (export "memory") 1) (global $zero (mut f64) (f64.const 0)) (global $zero32 (mut f32) (f32.const 0))
            (func $pass (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
            (func (export "run") (result {result}) (local $x f64) (local $y f64) (local $v v128) {body}))"#
    );
    run_with(&text, PLENTY, Options { nan: NanRule::Injected, ..Options::default() }).results.expect(&text)[0]
}

/// A NaN made by the processor; on x86-64 its sign is set.
const NAN: &str = "(f64.div (global.get $zero) (global.get $zero))";
const CANONICAL: u128 = 0x7ff8_0000_0000_0000;

#[test]
fn a_processors_nan_is_seen_in_canonical_form_only() {
    for body in [
        format!("(i64.reinterpret_f64 {NAN})"),
        format!("(i64.reinterpret_f64 (f64.add {NAN} (f64.const 1)))"),
        format!("(local.set $x {NAN}) (i64.reinterpret_f64 (local.get $x))"),
        format!("(local.set $x {NAN}) (local.set $y (local.get $x)) (i64.reinterpret_f64 (local.get $y))"),
        format!("(f64.store (i32.const 0) {NAN}) (i64.load (i32.const 0))"),
        format!("(call $pass {NAN})"),
        format!("(global.set $zero {NAN}) (i64.reinterpret_f64 (global.get $zero))"),
        format!("(i64.reinterpret_f64 (select {NAN} (f64.const 1) (i32.const 1)))"),
        format!("(i64.reinterpret_f64 (block (result f64) {NAN}))"),
        format!("(i64.reinterpret_f64 (block (result f64) (br 0 {NAN})))"),
        "(i64.reinterpret_f64 (f64.promote_f32 (f32.div (global.get $zero32) (global.get $zero32))))".to_owned(),
        format!("(i64x2.extract_lane 1 (f64x2.splat {NAN}))"),
        format!("(i64x2.extract_lane 1 (f64x2.mul (f64x2.splat {NAN}) (v128.const f64x2 1 1)))"),
        format!(
            "(local.set $v (f64x2.add (f64x2.splat {NAN}) (local.get $v)))
             (local.set $v (f64x2.add (local.get $v) (local.get $v))) (i64x2.extract_lane 0 (local.get $v))"
        ),
    ] {
        assert_eq!(bits("i64", &body), CANONICAL, "{body}");
    }
}

#[test]
fn the_sign_of_a_nan_is_that_of_a_canonical_one() {
    let sign = 1 << 63;
    assert_eq!(bits("i64", &format!("(i64.reinterpret_f64 (f64.neg {NAN}))")), CANONICAL | sign);
    assert_eq!(bits("i64", &format!("(i64.reinterpret_f64 (f64.abs (f64.neg {NAN})))")), CANONICAL);
    let one = u128::from(1f64.to_bits());
    assert_eq!(bits("i64", &format!("(i64.reinterpret_f64 (f64.copysign (f64.const 1) {NAN}))")), one);
    let body = format!("(local.set $x (f64.neg {NAN})) (i64.reinterpret_f64 (local.get $x))");
    assert_eq!(bits("i64", &body), CANONICAL | sign);
}

#[test]
fn lanes_of_single_precision() {
    let body = "(i32x4.extract_lane 2 (f32x4.div (local.get $v) (local.get $v)))";
    assert_eq!(bits("i32", body), 0x7fc0_0000);
    // Made as numbers of one shape, used as numbers of the other.
    let body = "(i64x2.extract_lane 0 (f64x2.abs (f32x4.div (local.get $v) (local.get $v))))";
    assert_eq!(bits("i64", body), 0x7fc0_0000_7fc0_0000);
}

#[test]
fn lanes_that_are_put_together_keep_a_payload_and_no_other_nan() {
    let nan = "(f32.div (global.get $zero32) (global.get $zero32))";
    let payload = "(f32.reinterpret_i32 (i32.const 0x7fa0_0001))";
    let double = "(f64x2.div (local.get $v) (local.get $v))";
    // The vector goes through a local that may also hold a result, so that what is read may be canonicalised.
    let through = |vector: &str| {
        format!(
            "(local.set $v {vector})
            (loop (if (i32.eqz (i32.const 1)) (then (local.set $v (f32x4.add (local.get $v) (local.get $v))))))
            (v128.store (i32.const 0) (local.get $v)) (i64.load (i32.const 0))"
        )
    };
    for (vector, expected) in [
        (format!("(f32x4.splat {nan})"), 0x7fc0_0000_7fc0_0000),
        (format!("(f32x4.splat (f32.abs {nan}))"), 0x7fc0_0000_7fc0_0000),
        (format!("(f32x4.splat (f32.neg {nan}))"), 0xffc0_0000_ffc0_0000),
        (format!("(f32x4.splat {payload})"), 0x7fa0_0001_7fa0_0001),
        (format!("(f32x4.replace_lane 1 (v128.const i32x4 0 0 0 0) {nan})"), 0x7fc0_0000_0000_0000),
        (format!("(f32x4.replace_lane 1 (v128.const i32x4 0x7fa00001 0 0 0) {nan})"), 0x7fc0_0000_7fa0_0001),
        (format!("(f32x4.replace_lane 0 (f32x4.splat {nan}) {payload})"), 0x7fc0_0000_7fa0_0001),
        (format!("(f32x4.replace_lane 0 (f32x4.splat {payload}) (f32.const 1))"), 0x7fa0_0001_3f80_0000),
        // The high half of a canonical double is a NaN of single precision with bits of its own.
        (format!("(f32x4.replace_lane 0 {double} (f32.const 1))"), 0x7ff8_0000_3f80_0000),
    ] {
        assert_eq!(bits("i64", &through(&vector)), expected, "{vector}");
    }
}

#[test]
fn a_payload_that_was_loaded_stays() {
    let payload = "(i64.store (i32.const 0) (i64.const 0xfff4_0000_0000_1234))";
    for body in [
        "(i64.reinterpret_f64 (f64.load (i32.const 0)))",
        "(local.set $x (f64.load (i32.const 0))) (i64.reinterpret_f64 (local.get $x))",
        "(local.set $x (f64.add (f64.const 1) (f64.const 2))) (local.set $x (f64.load (i32.const 0)))
         (f64.store (i32.const 8) (local.get $x)) (i64.load (i32.const 8))",
        "(local.set $x (f64.const 1)) (local.set $y (f64.load (i32.const 0))) (local.set $x (local.get $y))
         (i64.reinterpret_f64 (local.get $x))",
    ] {
        assert_eq!(bits("i64", &format!("{payload} {body}")), 0xfff4_0000_0000_1234, "{body}");
    }
}

#[test]
fn a_local_with_bits_from_both_sides_keeps_both() {
    let body = |choice: u32| {
        format!(
            "(i64.store (i32.const 0) (i64.const 0x7ff4_0000_0000_1234))
             (if (i32.const {choice}) (then (local.set $x (f64.load (i32.const 0)))) (else (local.set $x {NAN})))
             (i64.reinterpret_f64 (local.get $x))"
        )
    };
    assert_eq!(bits("i64", &body(1)), 0x7ff4_0000_0000_1234);
    assert_eq!(bits("i64", &body(0)), CANONICAL);
}

#[test]
fn integers_made_of_a_vector_of_floats_are_its_bits() {
    // A conversion looks at lanes that another instruction took for floats.
    for body in [
        "(f64.lt (f64.const 0) (f64x2.extract_lane 1 (f64x2.convert_low_i32x4_s (f64x2.div (local.get $v) (local.get $v)))))",
        "(f32.lt (f32.const 0) (f32x4.extract_lane 1 (f32x4.convert_i32x4_s (f64x2.div (local.get $v) (local.get $v)))))",
    ] {
        assert_eq!(bits("i32", body), 1, "the sign of a canonical NaN is not set: {body}");
    }
}

#[test]
fn half_a_double_is_no_float() {
    // As a double this number ends in 0xffa00000, which is a NaN of single precision.
    let body = "(local.set $v (f64x2.convert_low_i32x4_u (v128.const i32x4 0x800007fd 0 0 0)))
        (if (i32.eqz (i32.const 1)) (then (local.set $v (f32x4.add (local.get $v) (local.get $v)))))
        (i64x2.extract_lane 0 (local.get $v))";
    assert_eq!(bits("i64", body), u128::from(f64::from(0x8000_07fd_u32).to_bits()));
}

#[test]
fn a_choice_of_two_results_is_canonical() {
    for choice in [0, 1] {
        let body = format!("(i64.reinterpret_f64 (select {NAN} (f64.sqrt (f64.const -1)) (i32.const {choice})))");
        assert_eq!(bits("i64", &body), CANONICAL);
        let body = format!(
            "(i64.store (i32.const 0) (i64.const 0x7ff4_0000_0000_1234))
            (i64.reinterpret_f64 (select {NAN} (f64.load (i32.const 0)) (i32.const {choice})))"
        );
        assert_eq!(bits("i64", &body), if choice == 1 { CANONICAL } else { 0x7ff4_0000_0000_1234 });
    }
}

#[test]
fn a_local_is_told_apart_by_what_it_is_set_to() {
    let payload = 0x7ff4_0000_0000_1234;
    let store = "(i64.store (i32.const 0) (i64.const 0x7ff4_0000_0000_1234))";
    for (body, expected) in [
        // First a payload, then results; the sum starts anew on each turn.
        (format!("{store} (local.set $x (f64.load (i32.const 0))) (i64.reinterpret_f64 (local.get $x))"), payload),
        (
            format!(
                "{store} (local.set $x (f64.load (i32.const 0))) (drop (f64.abs (local.get $x)))
                (loop (local.set $x (f64.const 1))
                    (loop (local.set $x (f64.add (local.get $x) {NAN})) (br_if 0 (i32.const 0)))
                    (f64.store (i32.const 8) (local.get $x)) (br_if 0 (i32.const 0)))
                (i64.load (i32.const 8))"
            ),
            CANONICAL,
        ),
        // The payload comes back over a branch past the set.
        (
            format!(
                "{store} (local.set $x (f64.load (i32.const 0)))
                (block (loop (br_if 1 (i32.const 1)) (local.set $x {NAN}) (br 0)))
                (i64.reinterpret_f64 (local.get $x))"
            ),
            payload,
        ),
    ] {
        assert_eq!(bits("i64", &body), expected, "{body}");
    }
}

proptest! {
    #![proptest_config(common::cases(400))]

    #[test]
    fn random_floats_are_those_of_a_rule_that_never_waits(seed in any::<u64>()) {
        let module = wat(&floats::program(seed));
        let options = Options { nan: NanRule::Injected, ..Options::default() };
        let ours = instrument_with(&module, options).expect("the module is accepted").bytes;
        wasmparser::validate(&ours).expect("what is written is valid");
        let ours = Guest::new(&ours).call("run", &[], PLENTY);
        let naive = Guest::new(&naive::rewrite(&module, Naive { fuel: false, nan: true })).call("run", &[], PLENTY);
        prop_assert_eq!(ours.results, naive.results);
        let (ours, naive) = (&ours.memory[..512], &naive.memory[..512]);
        prop_assert_eq!(ours, naive, "seed {}", seed);
    }
}
