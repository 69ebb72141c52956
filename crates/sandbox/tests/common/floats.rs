//! Random programs that do nothing but move and compute floats, NaNs above all, through locals, loops and branches.

use std::fmt::Write;

const LOCALS: [(&str, u64); 3] = [("f32", 3), ("f64", 3), ("v128", 3)];
/// Bytes of memory in which programs load and store.
const MEMORY: u64 = 256;

pub struct Generator {
    state: u64,
    text: String,
    /// Open blocks; for each whether it is a loop.
    blocks: Vec<bool>,
    counters: u64,
}

/// A module whose `run` moves floats, and puts every local into memory at the end.
pub fn program(seed: u64) -> String {
    let mut generator = Generator { state: seed, text: String::new(), blocks: Vec::new(), counters: 0 };
    for _ in 0..3 + generator.below(8) {
        generator.statement(3);
    }
    let mut body = generator.text;
    let mut at = MEMORY;
    let mut locals = String::new();
    for (ty, count) in LOCALS {
        for index in 0..count {
            write!(locals, "(local ${ty}{index} {ty}) ").ok();
            writeln!(body, "({ty}.store (i32.const {at}) (local.get ${ty}{index}))").ok();
            at += 16;
        }
    }
    for index in 0..generator.counters {
        write!(locals, "(local $n{index} i32) ").ok();
    }
    // NaNs with payloads in both shapes, infinities, numbers.
    let data = "\\01\\02\\03\\04\\05\\06\\f7\\7f\\aa\\bb\\cc\\ff\\ee\\ff\\f0\\ff\\00\\00\\80\\7f\\00\\00\\80\\ff";
    format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 8) "{data}{data}") (data (i32.const 100) "{data}")
        (func $pass (param f64) (result f64) (f64.mul (local.get 0) (local.get 0)))
        (func (export "run") {locals} {body}))"#
    )
}

impl Generator {
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % limit
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn local(&mut self, ty: &str) -> String {
        format!("${ty}{}", self.below(3))
    }

    fn address(&mut self) -> String {
        format!("(i32.const {})", self.below(MEMORY - 16))
    }

    fn statement(&mut self, depth: u32) {
        let kind = if depth == 0 { self.below(5) } else { self.below(10) };
        let text = match kind {
            0..=3 => {
                let ty = self.pick(&["f32", "f64", "v128"]);
                let (local, value) = (self.local(ty), self.value(ty, 3));
                format!("(local.set {local} {value})\n")
            }
            4 => {
                let ty = self.pick(&["f32", "f64", "v128"]);
                let (at, value) = (self.address(), self.value(ty, 2));
                format!("({ty}.store {at} {value})\n")
            }
            5 => {
                let condition = self.condition();
                let then = self.block(depth, false);
                let otherwise = if self.below(3) == 0 { String::new() } else { self.block(depth, false) };
                format!("(if {condition} (then {then}) (else {otherwise}))\n")
            }
            6 => format!("(block {})\n", self.block(depth, false)),
            7 | 8 => {
                let counter = self.counters;
                self.counters += 1;
                let (body, turns) = (self.block(depth, true), 1 + self.below(3));
                // Counted before the body, so that a branch to its start ends as well.
                format!(
                    "(local.set $n{counter} (i32.const 0)) (block (loop
                    (local.set $n{counter} (i32.add (local.get $n{counter}) (i32.const 1)))
                    (br_if 1 (i32.gt_u (local.get $n{counter}) (i32.const {turns}))) {body} (br 0)))\n"
                )
            }
            _ if self.blocks.is_empty() => "nop\n".to_owned(),
            _ => {
                let target = self.below(self.blocks.len() as u64);
                let condition = self.condition();
                if self.below(4) == 0 { format!("(br {target})\n") } else { format!("(br_if {target} {condition})\n") }
            }
        };
        self.text.push_str(&text);
    }

    fn block(&mut self, depth: u32, is_loop: bool) -> String {
        let outer = std::mem::take(&mut self.text);
        if is_loop {
            // The block around it.
            self.blocks.push(false);
        }
        self.blocks.push(is_loop);
        for _ in 0..1 + self.below(4) {
            self.statement(depth - 1);
        }
        self.blocks.pop();
        if is_loop {
            self.blocks.pop();
        }
        std::mem::replace(&mut self.text, outer)
    }

    fn condition(&mut self) -> String {
        match self.below(4) {
            0 => format!("(i32.const {})", self.below(2)),
            1 => format!("(f64.lt {} {})", self.value("f64", 1), self.value("f64", 1)),
            2 => format!("(i32.and (i32.const 1) (i32.reinterpret_f32 {}))", self.value("f32", 1)),
            _ => format!("(i64.lt_s (i64.const 0) (i64.reinterpret_f64 {}))", self.value("f64", 1)),
        }
    }

    fn value(&mut self, ty: &str, depth: u32) -> String {
        if depth == 0 {
            return self.leaf(ty);
        }
        let next = depth - 1;
        match self.below(16) {
            0..=3 => self.leaf(ty),
            4 => format!("(local.tee {} {})", self.local(ty), self.value(ty, next)),
            5 | 6 => {
                let (one, other) = (self.value(ty, next), self.value(ty, next));
                format!("(select {one} {other} {})", self.condition())
            }
            7 => {
                let condition = self.condition();
                format!(
                    "(if (result {ty}) {condition} (then {}) (else {}))",
                    self.value(ty, next),
                    self.value(ty, next)
                )
            }
            8 => self.across(ty, next),
            9 if ty == "f64" => format!("(call $pass {})", self.value(ty, next)),
            9 | 10 => {
                let lanes = self.lanes(ty);
                format!("({lanes}.{} {})", self.pick(&["neg", "abs"]), self.value(ty, next))
            }
            11 => {
                let lanes = self.lanes(ty);
                format!("({lanes}.{} {})", self.pick(&["sqrt", "ceil", "nearest"]), self.value(ty, next))
            }
            _ => {
                let lanes = self.lanes(ty);
                let scalar = ["add", "sub", "mul", "div", "min", "max", "copysign"];
                let vector = ["add", "sub", "mul", "div", "min", "max", "pmin"];
                let name = self.pick(if ty == "v128" { &vector } else { &scalar });
                format!("({lanes}.{name} {} {})", self.value(ty, next), self.value(ty, next))
            }
        }
    }

    fn lanes<'a>(&mut self, ty: &'a str) -> &'a str {
        if ty == "v128" { self.pick(&["f32x4", "f64x2"]) } else { ty }
    }

    /// Between types and shapes.
    fn across(&mut self, ty: &str, depth: u32) -> String {
        match (ty, self.below(7)) {
            ("f32", 0 | 1) => format!("(f32.demote_f64 {})", self.value("f64", depth)),
            ("f32", 2 | 3) => format!("(f32x4.extract_lane {} {})", self.below(4), self.value("v128", depth)),
            ("f32", _) => format!("(f32.convert_i64_s (i64.trunc_sat_f64_s {}))", self.value("f64", depth)),
            ("f64", 0 | 1) => format!("(f64.promote_f32 {})", self.value("f32", depth)),
            ("f64", 2 | 3) => format!("(f64x2.extract_lane {} {})", self.below(2), self.value("v128", depth)),
            ("f64", _) => format!("(f64.convert_i32_s (i32.reinterpret_f32 {}))", self.value("f32", depth)),
            (_, 0) => format!("(f32x4.splat {})", self.value("f32", depth)),
            (_, 1) => {
                let (vector, scalar) = (self.value("v128", depth), self.value("f64", depth));
                format!("(f64x2.replace_lane {} {vector} {scalar})", self.below(2))
            }
            (_, 2) => {
                let (vector, scalar) = (self.value("v128", depth), self.value("f32", depth));
                format!("(f32x4.replace_lane {} {vector} {scalar})", self.below(4))
            }
            (_, 3) => {
                let name = self.pick(&["f64x2.promote_low_f32x4", "f32x4.demote_f64x2_zero"]);
                format!("({name} {})", self.value("v128", depth))
            }
            (_, 4) => {
                let name =
                    self.pick(&["f64x2.convert_low_i32x4_s", "f32x4.convert_i32x4_u", "i32x4.trunc_sat_f32x4_s"]);
                format!("({name} {})", self.value("v128", depth))
            }
            _ => {
                let name = self.pick(&["v128.xor", "i32x4.add", "f32x4.lt", "f64x2.eq"]);
                format!("({name} {} {})", self.value("v128", depth), self.value("v128", depth))
            }
        }
    }

    fn leaf(&mut self, ty: &str) -> String {
        match self.below(5) {
            0..=2 => format!("(local.get {})", self.local(ty)),
            3 => format!("({ty}.load {})", self.address()),
            _ => {
                let number = ["0", "1", "-1", "inf", "1e30", "nan", "-nan", "nan:0x600001"];
                match ty {
                    "v128" if self.below(2) == 0 => {
                        let lanes: Vec<&str> = (0..4).map(|_| self.pick(&number)).collect();
                        format!("(v128.const f32x4 {})", lanes.join(" "))
                    }
                    "v128" => {
                        let lanes: Vec<&str> = (0..2).map(|_| self.pick(&number)).collect();
                        format!("(v128.const f64x2 {})", lanes.join(" "))
                    }
                    _ => format!("({ty}.const {})", self.pick(&number)),
                }
            }
        }
    }
}
