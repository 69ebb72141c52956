//! Fuel and stack: what is charged, where the limits are looked at, what is left behind.

mod common;

use common::{Guest, PLENTY, run, run_with, wat};
use noria_sandbox::prices::price;
use noria_sandbox::{Counter, FUEL_MAX, Options, STACK_MAX, START_EXPORT, instrument, instrument_with};

fn fuel(names: &[&str]) -> i64 {
    names.iter().map(|name| i64::from(price(name).unwrap().fuel)).sum()
}

#[test]
fn a_straight_line_costs_the_sum_of_its_instructions() {
    let end = run(r#"(module (func (export "run") (result i32) i32.const 6 i32.const 7 i32.mul nop))"#, PLENTY);
    assert_eq!(end.results, Some(vec![42]));
    assert_eq!(end.used(PLENTY), Some(fuel(&["i32.const", "i32.const", "i32.mul"])));
}

const LOOP: &str = r#"(module (func (export "run") (local $i i32)
    (local.set $i (i32.const 100))
    (loop (br_if 0 (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#;

#[test]
fn a_loop_costs_each_turn() {
    let turn = fuel(&["local.get", "i32.const", "i32.sub", "local.tee", "br_if"]);
    assert_eq!(run(LOOP, PLENTY).used(PLENTY), Some(fuel(&["i32.const", "local.set"]) + 100 * turn));
}

#[test]
fn fuel_is_enough_to_the_last_unit_and_not_beyond() {
    let needed = run(LOOP, PLENTY).used(PLENTY).unwrap();
    assert_eq!(run(LOOP, needed).used(needed), Some(needed));
    let end = run(LOOP, needed - 1);
    assert_eq!(end.used(needed - 1), None, "below zero, however it ended");
    for fuel in 0..needed {
        assert_eq!(run(LOOP, fuel).used(fuel), None, "{fuel}");
    }
}

#[test]
fn an_endless_loop_and_an_endless_recursion_are_stopped() {
    for text in [
        r#"(module (func (export "run") (loop (br 0))))"#,
        r#"(module (func (export "run") (block (loop (br 0)))))"#,
        r#"(module (func $f (export "run") (call $f) (call $f)))"#,
    ] {
        let end = run(text, 5_000);
        assert!(end.trapped() && end.used(5_000).is_none(), "{text}");
    }
}

/// A loop that calls on every turn leaves the look at the limit to who is called, wherever that is written.
#[test]
fn an_endless_loop_of_calls_is_stopped_soon() {
    for body in [
        "(loop (call $f) (br 0))",
        "(loop (drop (i32.div_u (i32.const 1) (i32.const 1))) (call $f) (br 0))",
        "(loop (if (i32.const 0) (then (call $f))) (br 0))",
        "(loop (call_indirect (i32.const 0)) (br 0))",
        "(loop (call_indirect (i32.const 1)) (br 0))",
        "(loop (call $host) (br 0))",
        "(loop (drop (ref.func $f)) (drop (ref.func $f)) (drop (ref.func $f)) (call $f) (br 0))",
    ] {
        let text = format!(
            r#"(module (import "noria" "probe" (func $host)) (table funcref (elem $f $host)) (func $f)
            (func (export "run") {body}))"#
        );
        for fuel in [5_000, 5_001, 5_002, 5_003] {
            let end = run(&text, fuel);
            let left = end.fuel_left.unwrap();
            assert!(end.trapped() && (-20_000..0).contains(&left), "{body}: {left}");
            let global = run_with(&text, fuel, Options { fuel: Counter::Global, ..Options::default() });
            assert_eq!((end.used(fuel), end.host_calls), (global.used(fuel), global.host_calls), "{body}");
        }
    }
    // Much before the call: the loop looks itself, as it would without a call.
    let much = "(drop (i32.load (i32.const 0)))".repeat(200);
    let text = format!(r#"(module (memory 1) (func $f) (func (export "run") (loop {much} (call $f) (br 0))))"#);
    assert!(run(&text, 20_000).fuel_left.unwrap() > -4_000);
}

/// Functions of the program and of the host have wrappers in places; every way to name one leads to the right one.
#[test]
fn whoever_is_called_by_whatever_name_counts_the_same() {
    let text = r#"(module
        (type $t (func (param i32 i64) (result i64 i32)))
        (import "noria" "a" (func $a (type $t)))
        (import "noria" "b" (func $b (type $t)))
        (export "b" (func $b))
        (table $t0 8 funcref)
        (table $t1 2 funcref)
        (global $named funcref (ref.func $b))
        (global $own (mut funcref) (ref.func $twice))
        (elem (table $t0) (i32.const 0) func $a $twice $b)
        (elem (table $t1) (i32.const 0) funcref (ref.func $twice) (ref.null func))
        (elem $passive func $b $twice)
        (func $twice (type $t) (i64.mul (local.get 1) (i64.const 2)) (i32.add (local.get 0) (i32.const 1)))
        (func $exported (export "exported") (export "again") (type $t) (local f64 i32 f64)
            (local.set 2 (f64.convert_i32_s (local.get 0)))
            (local.set 3 (i32.trunc_f64_s (f64.add (local.tee 2 (f64.add (local.get 2) (f64.const 1))) (local.get 2))))
            (return (i64.extend_i32_s (local.get 3)) (i32.trunc_f64_s (local.get 4))))
        (func $sum (param $place i32) (result i64) (local $more i32)
            (call_indirect $t0 (type $t) (i32.const 20) (i64.const 11) (local.get $place))
            (local.set $more) (i64.add (i64.extend_i32_s (local.get $more))))
        (func (export "run") (result i64) (local i64)
            (table.set $t0 (i32.const 3) (global.get $named))
            (table.set $t0 (i32.const 4) (global.get $own))
            (table.set $t0 (i32.const 5) (ref.func $exported))
            (table.set $t0 (i32.const 6) (ref.func $a))
            (table.init $t1 $passive (i32.const 1) (i32.const 0) (i32.const 1))
            (table.set $t0 (i32.const 7) (table.get $t1 (i32.const 1)))
            (local.set 0 (call $sum (i32.const 0)))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 1))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 2))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 3))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 4))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 5))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 6))))
            (local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 100)) (call $sum (i32.const 7))))
            (local.get 0)))"#;
    let global = Options { fuel: Counter::Global, ..Options::default() };
    let end = run(text, PLENTY);
    // `twice` gives 2 * 11 and 20 + 1, `exported` 2 * (20 + 1) and 0, the host zeroes.
    assert_eq!(end.results, Some(vec![43_00_00_43_42_00_00]), "{end:?}");
    assert_eq!(end.host_calls.len(), 5);
    assert_eq!(end, run_with(text, PLENTY, global));
    let wasm = instrument(&wat(text)).unwrap().bytes;
    let same = instrument_with(&wat(text), global).unwrap().bytes;
    for name in ["b", "exported", "again"] {
        let (ours, plain) = (Guest::new(&wasm).call(name, &[], PLENTY), Guest::new(&same).call(name, &[], PLENTY));
        assert!(!ours.trapped(), "{name}");
        assert_eq!((ours.results, ours.fuel_left), (plain.results, plain.fuel_left), "{name}");
    }
}

/// A program without functions of its own: everything it names is the host's.
#[test]
fn a_program_may_be_nothing_but_names_of_the_host() {
    let text = r#"(module (import "noria" "a" (func $a)) (table funcref (elem $a)) (global funcref (ref.func $a))
        (export "run" (func $a)) (start $a))"#;
    let mut guest = Guest::new(&instrument(&wat(text)).unwrap().bytes);
    for name in ["run", START_EXPORT] {
        assert_eq!(guest.call(name, &[], PLENTY).host_calls.len(), 1, "{name}");
    }
}

#[test]
fn a_long_straight_line_is_looked_at_on_its_way() {
    let line = "(drop (i32.load (i32.const 0)))".repeat(20_000);
    let store = "(i32.store (i32.const 8) (i32.const 1))";
    let text = format!(r#"(module (memory (export "memory") 1) (func (export "run") {line} {store}))"#);
    let all = run(&text, PLENTY).used(PLENTY).unwrap();
    assert!(all > 80_000);
    let end = run(&text, all / 2);
    assert!(end.trapped() && end.used(all / 2).is_none());
    assert_eq!(end.memory[8], 0);
}

#[test]
fn bulk_operations_pay_their_length_before_they_run() {
    let text = |body: &str| {
        format!(
            r#"(module (memory (export "memory") 2) (table $t 10 100 funcref) (data $d "0123456789abcdef")
                (func (export "run") {body}))"#
        )
    };
    let three = fuel(&["i32.const", "i32.const", "i32.const"]);
    let of = |name: &str, length: u64| price(name).unwrap().of(length) as i64;
    for (body, cost) in [
        ("(memory.fill (i32.const 0) (i32.const 7) (i32.const 800))", three + of("memory.fill", 800)),
        ("(memory.copy (i32.const 0) (i32.const 7) (i32.const 807))", three + of("memory.copy", 807)),
        ("(memory.init $d (i32.const 0) (i32.const 0) (i32.const 16))", three + of("memory.init", 16)),
        ("(drop (memory.grow (i32.const 3)))", 1 + of("memory.grow", 3)),
        (
            "(table.fill $t (i32.const 0) (ref.null func) (i32.const 9))",
            fuel(&["i32.const", "ref.null", "i32.const"]) + of("table.fill", 9),
        ),
        (
            "(drop (table.grow $t (ref.null func) (i32.const 5)))",
            fuel(&["ref.null", "i32.const"]) + of("table.grow", 5),
        ),
    ] {
        let end = run(&text(body), PLENTY);
        assert_eq!(end.used(PLENTY), Some(cost), "{body}");
        assert_eq!(run(&text(body), cost - 1).used(cost - 1), None, "{body}");
    }
    let end = run(&text("(memory.fill (i32.const 0) (i32.const 7) (i32.const 8000))"), 100);
    assert!(end.trapped() && end.memory.iter().all(|byte| *byte == 0), "nothing was written");
    // The largest length there is: charged without wrapping, whatever the bounds say afterwards.
    let end = run(&text("(memory.fill (i32.const 0) (i32.const 7) (i32.const -1))"), PLENTY);
    assert_eq!(end.used(PLENTY), Some(three + of("memory.fill", u32::MAX.into())));
    let end = run(&text("(drop (memory.grow (i32.const -1)))"), FUEL_MAX.cast_signed());
    assert_eq!(end.used(FUEL_MAX.cast_signed()), Some(1 + of("memory.grow", u32::MAX.into())));
}

#[test]
fn a_trap_leaves_the_exact_count() {
    let text = r#"(module (memory 1) (func $inner (drop (i32.load (i32.const -1)))) (func (export "run") (local $i i32)
        (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
        (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#;
    let end = run(text, PLENTY);
    let turn = fuel(&["local.get", "i32.const", "i32.add", "local.tee", "i32.const", "i32.lt_u", "br_if"]);
    let after = fuel(&["i32.const", "i32.const", "i32.div_u"]);
    assert!(end.trapped());
    assert_eq!(end.used(PLENTY), Some(9 * turn + after));
}

#[test]
fn a_host_call_sees_the_exact_counter_and_its_price_counts() {
    let text = r#"(module (import "noria" "probe" (func $probe (param i32))) (func (export "run")
        (call $probe (i32.const 1)) (drop (i32.add (i32.const 1) (i32.const 2))) (call $probe (i32.const 2))))"#;
    let block = 2 * fuel(&["i32.const", "call"]) + fuel(&["i32.const", "i32.const", "i32.add"]);
    let end = run(text, 1_000);
    assert_eq!(end.host_calls, [(1, 1_000 - block), (2, 1_000 - block - 7)]);
    assert_eq!(end.used(1_000), Some(block + 2 * 7));
}

#[test]
fn no_host_call_happens_beyond_the_limit() {
    // The host's own price (7 in these tests) takes the counter below zero: the next call must not come through.
    let direct = r#"(module (import "noria" "probe" (func $probe (param i32))) (func (export "run")
        (call $probe (i32.const 1)) (call $probe (i32.const 2))))"#;
    let table = r#"(module (import "noria" "probe" (func $probe (param i32))) (table 1 funcref)
        (elem (i32.const 0) $probe) (type $p (func (param i32))) (func (export "run")
        (call_indirect (type $p) (i32.const 1) (i32.const 0)) (call_indirect (type $p) (i32.const 2) (i32.const 0))))"#;
    for text in [direct, table] {
        let enough = run(text, PLENTY).used(PLENTY).unwrap();
        let end = run(text, enough - 8);
        assert!(end.trapped() && end.used(enough - 8).is_none());
        assert_eq!(end.host_calls.len(), 1, "{text}");
    }
}

const FACTORIAL: &str = r#"(module (func $f (export "run") (param i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 1))
        (else (i64.mul (local.get 0) (call $f (i64.sub (local.get 0) (i64.const 1))))))))"#;

#[test]
fn the_stack_rule_counts_parameters_locals_and_operands() {
    // 1 parameter, at most 3 operands: 1 + (4 + locals)/8 units a call. Many locals, so that the limit is reached long
    // before the thread's own stack ends.
    for (locals, units) in [(1_004, 127), (1_011, 127), (1_012, 128), (2_044, 257)] {
        let declared = format!("(result i64) (local {})\n", "i64 ".repeat(locals));
        let text = FACTORIAL.replace("(result i64)\n", &declared);
        let mut guest = Guest::new(&instrument(&wat(&text)).unwrap().bytes);
        // One call for each argument down to 0.
        let fits = STACK_MAX as i64 / units - 1;
        let end = guest.call("run", &[wasmtime::Val::I64(fits)], PLENTY);
        assert!(!end.trapped() && end.stack_left >= Some(0), "{locals}");
        let end = guest.call("run", &[wasmtime::Val::I64(fits + 1)], PLENTY);
        assert!(end.trapped() && end.stack_left < Some(0) && end.used(PLENTY).is_some(), "{locals}");
    }
}

#[test]
fn a_start_function_runs_under_the_rules_and_not_by_itself() {
    let text = r#"(module (memory (export "memory") 1) (func $main (i32.store8 (i32.const 3) (i32.const 9)))
        (start $main) (func (export "run")))"#;
    let module = instrument(&wat(text)).unwrap();
    assert!(module.info.start);
    let mut guest = Guest::new(&module.bytes);
    assert_eq!(guest.call("run", &[], 100).memory[3], 0);
    let end = guest.call(START_EXPORT, &[], 100);
    assert_eq!(end.memory[3], 9);
    assert_eq!(end.used(100), Some(fuel(&["i32.const", "i32.const", "i32.store8"])));
    assert!(guest.call(START_EXPORT, &[], 2).used(2).is_none());
}

#[test]
fn growth_past_the_limits_returns_minus_one() {
    let memory = r#"(module (memory 1) (func (export "run") (result i32) (memory.grow (i32.const 16384))))"#;
    let table = r#"(module (table 1 funcref) (func (export "run") (result i32)
        (table.grow (ref.null func) (i32.const 1000000))))"#;
    for text in [memory, table] {
        assert_eq!(run(text, PLENTY).results, Some(vec![u128::from(u32::MAX)]), "{text}");
    }
    let fits = table.replace("1000000", "999999");
    assert_eq!(run(&fits, PLENTY).results, Some(vec![1]));
}

const THROWS: &str = r#"(module (tag $t (param i32)) (memory (export "memory") 1)
    (func $deep (param i32) (if (i32.eqz (local.get 0)) (then (throw $t (i32.const 5))))
        (call $deep (i32.sub (local.get 0) (i32.const 1))))
    (func (export "run") (result i32) (local $i i32) (local $sum i32)
        (local.set $i (i32.const 50))
        (loop $again
            (block $caught (result i32)
                (try_table (catch $t $caught) (call $deep (local.get $i)))
                (i32.const 0))
            (local.set $sum (i32.add (local.get $sum)))
            (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        (local.get $sum)))"#;

#[test]
fn fuel_survives_exceptions_and_the_stack_is_given_back() {
    let local = run(THROWS, PLENTY);
    let global = run_with(THROWS, PLENTY, Options { fuel: Counter::Global, ..Options::default() });
    assert_eq!(local.results, Some(vec![250]));
    assert_eq!((&local.results, local.fuel_left), (&global.results, global.fuel_left));
    assert!(local.used(PLENTY).unwrap() > 50 * 50 / 2 * fuel(&["call"]));
    // More throws than the stack limit would bear if a catch did not restore it.
    let often = THROWS.replace("i32.const 50", "i32.const 600");
    assert!(!run(&often, PLENTY).trapped());
}

#[test]
fn a_catch_at_a_loop_or_after_other_branches_counts_the_same() {
    let to_loop = r#"(module (tag $t) (func (export "run") (local $i i32)
        (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (if (i32.lt_u (local.get $i) (i32.const 9)) (then (try_table (catch $t $again) (throw $t)))))))"#;
    let mixed = r#"(module (tag $t) (func $f (throw $t)) (func (export "run") (local $i i32)
        (loop $again (block $out
            (br_if $out (i32.eq (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3)))
            (try_table (catch $t $out) (call $f)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 9))))))"#;
    // The end of an `if` is also reached by a false condition, and from before its `else`.
    let past_an_if = r#"(module (tag $t) (func $f (param i32) (if (local.get 0) (then (throw $t))))
        (func $g (param i32) (if $if (i32.eq (local.get 0) (i32.const 3)) (then (try_table (catch $t $if) (call $f (i32.const 1))))))
        (func $h (param i32) (if $if (i32.eq (local.get 0) (i32.const 3)) (then (drop (i32.const 7)))
            (else (try_table (catch $t $if) (call $f (i32.const 0))))))
        (func (export "run") (local $i i32) (loop $again (call $g (local.get $i)) (call $h (local.get $i))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))))"#;
    for text in [to_loop, mixed, past_an_if] {
        let local = run(text, PLENTY);
        let global = run_with(text, PLENTY, Options { fuel: Counter::Global, ..Options::default() });
        assert!(!local.trapped(), "{text}");
        assert_eq!(local.fuel_left, global.fuel_left, "{text}");
        assert!(local.used(PLENTY).unwrap() > 8 * 10, "{text}");
    }
}

/// Each way out of a function and each place where an exception can be caught, taken so often that the stack would end if
/// any of them did not give back what it took.
#[test]
fn every_way_out_gives_the_stack_back() {
    let ways = [
        ("nothing", "(func $f (param i32))"),
        ("return", "(func $f (param i32) (return))"),
        ("return after a call", "(func $f (param i32) (call $leaf) (return))"),
        ("end after a call", "(func $f (param i32) (call $leaf))"),
        ("br", "(func $f (param i32) (br 0))"),
        ("br from within, after a call", "(func $f (param i32) (block (call $leaf) (br 1)))"),
        ("br_if taken", "(func $f (param i32) (br_if 0 (i32.const 1)) (call $leaf))"),
        ("br_if sometimes taken", "(func $f (param i32) (br_if 0 (i32.and (local.get 0) (i32.const 1))) (call $leaf))"),
        ("br_if not taken, twice", "(func $f (param i32) (br_if 0 (i32.const 0)) (br_if 0 (i32.const 0)) (call $leaf))"),
        (
            "br_table, sometimes to the end",
            "(func $f (param i32) (block (br_table 0 1 0 (i32.and (local.get 0) (i32.const 3)))) (call $leaf))",
        ),
        ("through a table", "(func $f (param i32) (call_indirect (i32.const 0)))"),
        ("caught in a block", "(func $f (param i32) (block (try_table (catch $t 0) (call $deep (local.get 0)))))"),
        (
            "caught in a block, then a call",
            "(func $f (param i32) (block (try_table (catch_all 0) (call $deep (local.get 0)))) (call $leaf))",
        ),
        ("caught at the end", "(func $f (param i32) (try_table (catch $t 0) (call $deep (local.get 0))))"),
        (
            "caught at the end or not thrown",
            "(func $f (param i32) (try_table (catch $t 0)
                (if (i32.and (local.get 0) (i32.const 1)) (then (call $deep (local.get 0))))) (call $leaf))",
        ),
        (
            "caught at the end, which is also reached by br_if",
            "(func $f (param i32) (br_if 0 (i32.and (local.get 0) (i32.const 1)))
                (try_table (catch $t 0) (call $deep (local.get 0))))",
        ),
        (
            "caught at the end with one result",
            "(func $one (param i32) (result i32)
                (try_table (catch $value 0) (call $throw_value (local.get 0))) (i32.const 1))
            (func $f (param i32) (drop (call $one (local.get 0))))",
        ),
        (
            "caught at the end with two results and parameters",
            "(func $two (param i32) (result i32 i64)
                (try_table (catch $pair 0) (call $throw_pair (local.get 0))) (i32.const 1) (i64.const 2))
            (func $f (param i32) (local $second i64) (call $two (local.get 0)) (local.set $second)
                (if (i32.ne (local.get 0)) (then unreachable))
                (if (i64.ne (local.get $second) (i64.extend_i32_u (local.get 0))) (then unreachable)))",
        ),
        (
            "caught at the end with two results and no parameters",
            "(func $two (result i32 i64) (try_table (catch $pair 0) (call $throw_pair (i32.const 1))) (i32.const 1) (i64.const 2))
            (func $f (param i32) (call $two) (drop) (drop))",
        ),
        (
            "caught at a loop",
            "(func $f (param i32) (local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (if (i32.lt_u (local.get $i) (i32.const 4)) (then (try_table (catch $t $again) (call $deep (local.get 0))))))
                (call $leaf))",
        ),
        (
            "caught at a loop, with br_if to the end",
            "(func $f (param i32) (local $i i32) (loop $again
                (br_if 1 (i32.gt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4)))
                (try_table (catch $t $again) (call $deep (local.get 0)))))",
        ),
        (
            "caught at the end, and at a loop",
            "(func $f (param i32) (local $i i32) (loop $again
                (if (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))
                    (then (try_table (catch $t $again) (call $deep (local.get 0)))))
                (try_table (catch $t 1) (call $deep (local.get 0)))))",
        ),
        (
            "caught and thrown again",
            "(func $again (param i32) (block (result exnref)
                (try_table (catch_all_ref 0) (call $deep (local.get 0))) (unreachable)) (throw_ref))
            (func $f (param i32) (block (try_table (catch $t 0) (call $again (local.get 0)))))",
        ),
    ];
    for (name, functions) in ways {
        let text = format!(
            r#"(module (tag $t) (tag $value (param i32)) (tag $pair (param i32 i64))
            (table funcref (elem $leaf))
            (func $leaf) (func $throw_value (param i32) (throw $value (local.get 0)))
            (func $throw_pair (param i32) (throw $pair (local.get 0) (i64.extend_i32_u (local.get 0))))
            (func $deep (param i32) (if (i32.and (local.get 0) (i32.const 7))
                (then (call $deep (i32.sub (local.get 0) (i32.const 1)))) (else (throw $t))))
            {functions}
            (func (export "run") (local $n i32) (local.set $n (i32.const 70000))
                (loop $again (call $f (local.get $n))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#
        );
        let local = run(&text, PLENTY);
        let global = run_with(&text, PLENTY, Options { fuel: Counter::Global, ..Options::default() });
        assert!(!local.trapped() && !global.trapped(), "{name}: {local:?} {global:?}");
        assert_eq!((local.stack_left, global.stack_left), (Some(STACK_MAX as i64), Some(STACK_MAX as i64)), "{name}");
        assert_eq!(local.fuel_left, global.fuel_left, "{name}");
    }
}
