//! Single instructions, each waiting for the one before it, with all they need in the nearest cache.

use crate::Case;

/// The loop alone.
pub fn nothing() -> Case {
    case("nothing", None, "", "", "", 1)
}

fn case(
    name: &str,
    instruction: Option<&'static str>,
    fields: &str,
    before: &str,
    body: impl Into<String>,
    turns: u32,
) -> Case {
    Case {
        name: name.to_owned(),
        instruction,
        fields: fields.to_owned(),
        before: before.to_owned(),
        body: body.into(),
        copies: 16,
        turns,
        each: 1,
        whole: false,
    }
}

const TURNS: u32 = 300_000;

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut chain = |instruction: &'static str, body: &str| {
        cases.push(case(instruction, Some(instruction), "", "", body, TURNS));
    };
    for name in
        ["i32.add", "i32.mul", "i32.shl", "i32.rotl", "i32.xor", "i32.div_s", "i32.div_u", "i32.rem_s", "i32.rem_u"]
    {
        // Or-ing keeps dividends large.
        let large =
            if name.contains("div") || name.contains("rem") { "(i32.const 0x7ffffff1)" } else { "(i32.const 5)" };
        chain(name, &format!("(local.set $i ({name} (i32.or (local.get $i) {large}) (local.get $k)))"));
    }
    for name in ["i64.add", "i64.mul", "i64.shr_s", "i64.div_s", "i64.div_u", "i64.rem_s", "i64.rem_u"] {
        let large = if name.contains("div") || name.contains("rem") {
            "(i64.const 0x7ffffffffffffff1)"
        } else {
            "(i64.const 5)"
        };
        chain(name, &format!("(local.set $j ({name} (i64.or (local.get $j) {large}) (local.get $l)))"));
    }
    for name in ["i64.popcnt", "i64.clz", "i64.ctz", "i64.extend8_s", "i64.extend32_s"] {
        chain(name, &format!("(local.set $j ({name} (local.get $j)))"));
    }
    for name in ["f64.add", "f64.mul", "f64.div", "f64.min", "f64.max", "f64.copysign"] {
        chain(name, &format!("(local.set $y ({name} (local.get $y) (local.get $w)))"));
    }
    for name in ["f32.div", "f32.min"] {
        chain(name, &format!("(local.set $x ({name} (local.get $x) (local.get $z)))"));
    }
    for name in ["f64.sqrt", "f64.ceil", "f64.nearest", "f64.neg"] {
        chain(name, &format!("(local.set $y ({name} (local.get $y)))"));
    }
    chain("f32.sqrt", "(local.set $x (f32.sqrt (local.get $x)))");
    chain("f32.demote_f64", "(local.set $y (f64.promote_f32 (f32.demote_f64 (local.get $y))))");
    for (to, from, local) in [("i64", "f64", "$j"), ("i32", "f64", "$i")] {
        for sign in ["s", "u"] {
            let source = if from == "f64" { "$y" } else { "$x" };
            for way in ["trunc", "trunc_sat"] {
                let name: &'static str = match (to, way, sign) {
                    ("i64", "trunc", "s") => "i64.trunc_f64_s",
                    ("i64", "trunc", _) => "i64.trunc_f64_u",
                    ("i64", _, "s") => "i64.trunc_sat_f64_s",
                    ("i64", ..) => "i64.trunc_sat_f64_u",
                    (_, "trunc", "s") => "i32.trunc_f64_s",
                    (_, "trunc", _) => "i32.trunc_f64_u",
                    (_, _, "s") => "i32.trunc_sat_f64_s",
                    _ => "i32.trunc_sat_f64_u",
                };
                chain(
                    name,
                    &format!(
                        "(local.set {local} ({name} (local.get {source})))
                         (local.set {source} (f64.convert_{to}_s (local.get {local})))"
                    ),
                );
            }
        }
    }
    chain("f64.convert_i64_u", "(local.set $y (f64.convert_i64_u (i64.reinterpret_f64 (local.get $y))))");
    chain(
        "f32.convert_i64_u",
        "(local.set $x (f32.convert_i64_u (i64.extend_i32_u (i32.reinterpret_f32 (local.get $x)))))",
    );
    chain("select", "(local.set $i (select (local.get $k) (local.get $turn) (local.get $i)))");
    vectors(&mut chain);
    memory(&mut cases);
    others(&mut cases);
    cases
}

fn vectors(chain: &mut impl FnMut(&'static str, &str)) {
    for name in [
        "i32x4.add",
        "i8x16.swizzle",
        "i64x2.mul",
        "i32x4.mul",
        "i16x8.q15mulr_sat_s",
        "i32x4.dot_i16x8_s",
        "i8x16.avgr_u",
        "i16x8.extmul_low_i8x16_s",
        "f32x4.add",
        "f32x4.div",
        "f64x2.div",
        "f32x4.min",
        "f64x2.max",
        "f32x4.pmin",
        "i8x16.narrow_i16x8_s",
        "i64x2.gt_s",
        "f64x2.lt",
        "i8x16.relaxed_swizzle",
        "i16x8.relaxed_dot_i8x16_i7x16_s",
    ] {
        chain(name, &format!("(local.set $v ({name} (local.get $v) (local.get $u)))"));
    }
    for name in [
        "i8x16.popcnt",
        "i8x16.abs",
        "i64x2.abs",
        "f32x4.sqrt",
        "f64x2.sqrt",
        "f32x4.ceil",
        "f64x2.nearest",
        "i32x4.trunc_sat_f32x4_s",
        "i32x4.trunc_sat_f32x4_u",
        "f32x4.convert_i32x4_u",
        "i32x4.trunc_sat_f64x2_s_zero",
        "i32x4.trunc_sat_f64x2_u_zero",
        "f64x2.convert_low_i32x4_u",
        "f32x4.demote_f64x2_zero",
        "f64x2.promote_low_f32x4",
        "i32x4.extadd_pairwise_i16x8_u",
        "i16x8.extend_high_i8x16_s",
        "i32x4.relaxed_trunc_f32x4_u",
    ] {
        chain(name, &format!("(local.set $v ({name} (local.get $v)))"));
    }
    for name in ["i8x16.shl", "i8x16.shr_s", "i64x2.shr_s", "i32x4.shl"] {
        chain(name, &format!("(local.set $v ({name} (local.get $v) (local.get $k)))"));
    }
    for name in ["f32x4.relaxed_madd", "f64x2.relaxed_madd", "v128.bitselect", "i32x4.relaxed_dot_i8x16_i7x16_add_s"] {
        chain(name, &format!("(local.set $v ({name} (local.get $v) (local.get $u) (local.get $u)))"));
    }
    chain(
        "i8x16.shuffle",
        "(local.set $v (i8x16.shuffle 31 2 17 4 9 22 1 14 3 30 5 18 7 26 11 0 (local.get $v) (local.get $u)))",
    );
    for name in ["v128.any_true", "i8x16.all_true", "i8x16.bitmask", "i16x8.extract_lane_u 3"] {
        let instruction = name.split(' ').next().unwrap_or(name);
        chain(instruction, &format!("(local.set $v (i32x4.splat ({name} (local.get $v))))"));
    }
    chain("i8x16.replace_lane", "(local.set $v (i8x16.replace_lane 5 (local.get $v) (local.get $k)))");
}

fn memory(cases: &mut Vec<Case>) {
    let mut add = |instruction: &'static str, body: &str| {
        cases.push(case(
            instruction,
            Some(instruction),
            "",
            "(local.set $i (i32.const 1024))
            (i32.store (i32.const 1024) (i32.const 1024)) (i64.store (i32.const 1032) (i64.const 1024))",
            body,
            TURNS,
        ));
    };
    add("i32.load", "(local.set $i (i32.load (local.get $i)))");
    add("i32.load8_u", "(local.set $i (i32.add (i32.const 1024) (i32.load8_u (local.get $i))))");
    add("v128.load", "(local.set $i (i32x4.extract_lane 0 (v128.load (local.get $i))))");
    add("i32.store", "(i32.store (i32.const 1024) (local.get $i)) (local.set $i (i32.load (i32.const 1024)))");
    add(
        "v128.load32_lane",
        "(local.set $v (v128.load32_lane 1 (i32x4.extract_lane 1 (v128.and (local.get $v) (v128.const i32x4 0 1024 0 0))) (local.get $v)))",
    );
    add("memory.size", "(local.set $i (i32.add (local.get $i) (memory.size)))");
    add("memory.grow", "(local.set $i (i32.add (local.get $i) (memory.grow (i32.const 0))))");
    add("memory.copy", "(memory.copy (i32.const 2048) (i32.const 1024) (i32.const 0))");
    add("memory.fill", "(memory.fill (i32.const 2048) (i32.const 1) (i32.const 0))");
}

fn others(cases: &mut Vec<Case>) {
    let fields = r#"
        (type $plain (func (param i32) (result i32)))
        (global $g (mut i32) (i32.const 1)) (global $gv (mut v128) (v128.const i64x2 1 1))
        (global $gr (mut funcref) (ref.null func))
        (table $t 64 64 funcref) (table $e 64 100 externref)
        (elem $s func $f $f) (data $d "0123456789")
        (elem (table $t) (i32.const 0) func $f $f $f $f $f $f $f $f)
        (tag $tag (param i32))
        (func $f (type $plain) (local.get 0))
        (func $throws (param i32) (throw $tag (local.get 0)))"#;
    let mut add = |instruction: &'static str, body: &str, turns: u32| {
        cases.push(case(instruction, Some(instruction), fields, "", body, turns));
    };
    add("global.get", "(local.set $i (i32.add (local.get $i) (global.get $g)))", TURNS);
    add("global.set", "(global.set $g (i32.add (global.get $g) (local.get $k)))", TURNS);
    add("call", "(local.set $i (call $f (local.get $i)))", TURNS);
    add("call_indirect", "(local.set $i (call_indirect $t (type $plain) (local.get $i) (i32.const 3)))", TURNS);
    add("ref.func", "(global.set $gr (ref.func $f))", TURNS);
    add("table.get", "(global.set $gr (table.get $t (i32.and (local.get $i) (i32.const 7))))", TURNS);
    add("table.set", "(table.set $t (i32.and (local.get $i) (i32.const 7)) (global.get $gr))", TURNS);
    add("table.size", "(local.set $i (i32.add (local.get $i) (table.size $t)))", TURNS);
    add("table.grow", "(local.set $i (table.grow $e (ref.null extern) (i32.const 0)))", TURNS);
    add("table.fill", "(table.fill $e (i32.const 0) (ref.null extern) (i32.const 0))", TURNS);
    add("table.copy", "(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 0))", TURNS);
    add("table.init", "(table.init $t $s (i32.const 0) (i32.const 0) (i32.const 0))", TURNS);
    add("memory.init", "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))", TURNS);
    add("data.drop", "(data.drop $d)", TURNS);
    add("elem.drop", "(elem.drop $s)", TURNS);
    add(
        "throw",
        "(block $out (result i32) (try_table (catch $tag $out) (throw $tag (local.get $i))) (i32.const 0))
         (local.set $i)",
        500,
    );
    add(
        "throw_ref",
        "(block $out (result i32) (block $in (result exnref) (try_table (result exnref) (catch $tag $out)
            (block $again (result i32 exnref) (try_table (catch_ref $tag $again) (throw $tag (local.get $i))) unreachable)
            (throw_ref))) (drop) (i32.const 0)) (local.set $i)",
        300,
    );
    add("try_table", "(block $out (try_table (catch_all $out) (local.set $i (call $f (local.get $i)))))", TURNS);
}
