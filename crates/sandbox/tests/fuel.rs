//! Fuel: what is charged, where the limit is looked at, what is left behind.

mod common;

use common::{PLENTY, run};
use noria_sandbox::prices::price;

fn fuel(names: &[&str]) -> i64 {
    names.iter().map(|name| i64::from(price(name).unwrap().fuel)).sum()
}

#[test]
fn a_straight_line_costs_the_sum_of_its_instructions() {
    let end = run(r#"(module (func (export "run") (result i32) i32.const 6 i32.const 7 i32.mul nop))"#, PLENTY);
    assert_eq!(end.results, Some(vec![42]));
    assert_eq!(end.used(PLENTY), Some(fuel(&["i32.const", "i32.const", "i32.mul"])));
}
