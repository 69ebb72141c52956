//! Programs that try to take long for little fuel.

#![allow(clippy::vec_init_then_push)] // a list of cases, some of which need preparation

use crate::Case;

fn case(name: &str, fields: &str, before: &str, body: &str, turns: u32, each: u32) -> Case {
    Case {
        name: name.to_owned(),
        instruction: None,
        fields: fields.to_owned(),
        before: before.to_owned(),
        body: body.to_owned(),
        copies: 1,
        turns,
        each,
        whole: false,
    }
}

/// One memory of 1 GiB.
const LARGE: &str = r#"(memory (export "memory") 16384)"#;
/// Where the next access goes: a full-period generator over 2^24 lines of 64 bytes, so that caches and address
/// translation miss. Cheaper in fuel than a chain through memory, but accesses do not wait for each other.
const NEXT: &str = "(local.set $k (i32.add (i32.mul (local.get $k) (i32.const 1664525)) (i32.const 1013904223)))";

pub fn all() -> Vec<Case> {
    let mut cases = memory();
    cases.extend(control());
    cases.extend(tables_and_host());
    cases
}

/// A chain through memory: the word at each line of `1 << shift` bytes names the next, in the order of a generator with
/// full period, so that no prefetcher can know it.
fn chain(lines: u32, shift: u32, offset: u32) -> String {
    format!(
        "(local.set $i (i32.const 0)) (local.set $k (i32.const 0)) (local.set $turn (i32.const {lines}))
        (loop $build
            (local.set $k (i32.and (i32.add (i32.mul (local.get $k) (i32.const 1664525)) (i32.const 1013904223)) (i32.const {mask})))
            (i32.store offset={offset} (i32.shl (local.get $i) (i32.const {shift})) (i32.shl (local.get $k) (i32.const {shift})))
            (local.set $i (local.get $k))
            (br_if $build (local.tee $turn (i32.sub (local.get $turn) (i32.const 1)))))
        (local.set $i (i32.const 0))",
        mask = lines - 1,
    )
}

fn memory() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, lines, shift, offset) in [
        ("16 MiB", 1 << 18, 6, 0),
        ("256 MiB", 1 << 22, 6, 0),
        ("1 GiB", 1 << 24, 6, 0),
        ("1 GiB, one in each page", 1 << 18, 12, 0),
        ("512 MiB, each across two pages", 1 << 17, 12, 4094),
    ] {
        let follow = format!("(local.set $i (i32.load offset={offset} (local.get $i)))");
        let before = chain(lines, shift, offset);
        let mut chase = case(&format!("pointers over {name}"), LARGE, &before, &follow, 60_000, 1);
        chase.copies = 16;
        cases.push(chase);
    }
    let mask = "(i32.and (local.get $k) (i32.const 0x3fffffc0))";
    let touch = "(local.set $i (i32.const 0)) (loop $touch (i32.store (local.get $i) (i32.const 1))
        (br_if $touch (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4096))) (i32.const 0x3ffff000))))";
    cases.push(case(
        "stores anywhere in 1 GiB",
        LARGE,
        touch,
        &format!("{NEXT} (i32.store {mask} (local.get $i))"),
        2_000_000,
        1,
    ));
    cases.push(case(
        "loads anywhere in 1 GiB",
        LARGE,
        touch,
        &format!("{NEXT} (local.set $i (i32.load {mask}))"),
        2_000_000,
        1,
    ));
    cases.push(case(
        "vectors across lines and pages",
        LARGE,
        touch,
        &format!("{NEXT} (local.set $v (v128.xor (local.get $v) (v128.load offset=4088 (i32.and (local.get $k) (i32.const 0x3fff0000)))))"),
        2_000_000,
        1,
    ));
    let touching = case(
        "first touch of pages",
        LARGE,
        "(local.set $i (i32.const 0))",
        "(i32.store8 (local.get $i) (i32.const 1)) (local.set $i (i32.add (local.get $i) (i32.const 4096)))",
        262_143,
        1,
    );
    cases.push(Case { whole: true, ..touching });
    cases.push(case(
        "growing by a page and touching it",
        r#"(memory (export "memory") 2)"#,
        "",
        "(local.set $i (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
        (local.set $k (i32.const 0)) (loop $touch (i32.store8 (i32.add (local.get $i) (local.get $k)) (i32.const 1))
            (br_if $touch (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 4096))) (i32.const 65536))))",
        16_000,
        1,
    ));
    cases.push(case(
        "growing by a page",
        r#"(memory (export "memory") 2)"#,
        "",
        "(drop (memory.grow (i32.const 1)))",
        16_000,
        1,
    ));
    cases.push(case(
        "filling 1 GiB, first touch",
        LARGE,
        "",
        "(memory.fill (i32.const 1024) (i32.const 1) (i32.const 0x3ffff000))",
        1,
        1,
    ));
    cases.push(case(
        "copying 512 MiB",
        LARGE,
        touch,
        "(memory.copy (i32.const 0) (i32.const 0x20000000) (i32.const 0x1fff0000))",
        1,
        1,
    ));
    cases.push(case("copying 64 bytes across pages", LARGE, touch,
        &format!("{NEXT} (memory.copy (i32.and (local.get $k) (i32.const 0x3ffc0000)) (i32.or (i32.const 4064) (i32.and (i32.mul (local.get $k) (i32.const 77)) (i32.const 0x3ffc0000))) (i32.const 64))"), 1_000_000, 1));
    cases.push(case(
        "copying no byte",
        LARGE,
        "",
        "(memory.copy (i32.const 0) (i32.const 0) (i32.const 0))",
        2_000_000,
        1,
    ));
    cases
}

fn control() -> Vec<Case> {
    let random = "(local.set $j (i64.xor (local.get $j) (i64.shl (local.get $j) (i64.const 13))))
        (local.set $j (i64.xor (local.get $j) (i64.shr_u (local.get $j) (i64.const 7))))";
    let mut cases = Vec::new();
    cases.push(case(
        "a branch nobody foresees",
        "",
        "",
        &format!("{random} (if (i32.and (i32.const 1) (i32.wrap_i64 (local.get $j))) (then (i32.store (i32.const 0) (local.get $i))))"),
        3_000_000,
        1,
    ));
    let targets = (0..16).map(|index| format!("{index} ")).collect::<String>();
    let blocks = "(block ".repeat(16);
    let ends: String =
        (0..15).map(|index| format!(") (local.set $i (i32.add (local.get $i) (i32.const {index}))) ")).collect();
    cases.push(case(
        "a jump table nobody foresees",
        "",
        "",
        &format!(
            "{random} {blocks} (br_table {targets} (i32.and (i32.const 15) (i32.wrap_i64 (local.get $j)))) {ends} )"
        ),
        3_000_000,
        1,
    ));
    let functions: String = (0..64)
        .map(|index| format!("(func $f{index} (type $t) (i32.add (local.get 0) (i32.const {index})))"))
        .collect();
    let names: String = (0..64).map(|index| format!("$f{index} ")).collect();
    cases.push(case(
        "an indirect call nobody foresees",
        &format!("(type $t (func (param i32) (result i32))) (table 64 funcref) (elem (i32.const 0) func {names}) {functions}"),
        "",
        &format!("{random} (local.set $i (call_indirect (type $t) (local.get $i) (i32.and (i32.const 63) (i32.wrap_i64 (local.get $j)))))"),
        3_000_000,
        1,
    ));
    cases.push(case(
        "deep calls",
        "(func $deep (param i32) (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))))",
        "",
        "(call $deep (i32.const 60000))",
        50,
        60_000,
    ));
    let many: String = "(local i64)".repeat(400);
    cases.push(case(
        "deep calls of large frames, once",
        &format!("(func $deep (param i32) {many} (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))))"),
        "",
        "(call $deep (i32.const 1200))",
        1,
        1200,
    ));
    cases.push(case(
        "throwing through 1000 frames",
        "(tag $t) (func $deep (param i32) (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))) (throw $t))",
        "",
        "(block $out (try_table (catch $t $out) (call $deep (i32.const 1000))))",
        100,
        1000,
    ));
    let clauses = "(catch $u $o) ".repeat(20);
    cases.push(case(
        "throwing through 1000 frames that catch something else",
        &format!(
            "(tag $t) (tag $u) (func $deep (param i32) (if (i32.eqz (local.get 0)) (then (throw $t)))
            (block $o (try_table {clauses} (call $deep (i32.sub (local.get 0) (i32.const 1))))))"
        ),
        "",
        "(block $out (try_table (catch $t $out) (call $deep (i32.const 1000))))",
        100,
        1000,
    ));
    cases.push(case(
        "throwing and catching, exceptions kept",
        "(tag $t) (table $kept 1000 exnref) (func $throw (throw $t))",
        "",
        "(local.set $i (i32.rem_u (local.get $turn) (i32.const 1000)))
        (table.set $kept (local.get $i) (block $out (result exnref) (try_table (catch_all_ref $out) (call $throw)) unreachable))",
        5_000,
        1,
    ));
    cases
}

fn tables_and_host() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.push(case(
        "growing a table by an entry",
        "(table $t 0 funcref)",
        "",
        "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        200_000,
        1,
    ));
    cases.push(case(
        "filling a table",
        "(table $t 1000000 funcref)",
        "",
        "(table.fill $t (i32.const 0) (ref.null func) (i32.const 1000000))",
        5,
        1,
    ));
    cases.push(case(
        "copying a table",
        "(table $t 1000000 funcref) (elem (i32.const 0) func $f) (func $f)",
        "",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 999999))",
        3,
        1,
    ));
    cases.push(case(
        "copying a table of other references",
        "(table $t 1000000 externref)",
        "",
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 999999))",
        3,
        1,
    ));
    let names = "$f ".repeat(10_000);
    cases.push(case(
        "filling a table from a segment",
        &format!("(table $t 10000 funcref) (elem $s func {names}) (func $f)"),
        "",
        "(table.init $t $s (i32.const 0) (i32.const 0) (i32.const 10000))",
        50,
        1,
    ));
    cases.push(case(
        "first use of table entries",
        &format!("(type $p (func)) (table $t 10000 funcref) (elem (i32.const 0) func {names}) (func $f)"),
        "(local.set $i (i32.const 0))",
        "(call_indirect (type $p) (local.get $i)) (local.set $i (i32.add (local.get $i) (i32.const 1)))",
        10_000,
        1,
    ));
    let mut host = |name: &str, body: &str, turns: u32| cases.push(case(name, "", "", body, turns, 1));
    host("asking for the time", "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 8)))", 300_000);
    host("one random byte", "(drop (call $random_get (i32.const 8) (i32.const 1)))", 300_000);
    host("64 KiB of random bytes", "(drop (call $random_get (i32.const 8) (i32.const 65536)))", 500);
    host("writing nothing", "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))", 300_000);
    host(
        "writing one byte",
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        300_000,
    );
    host(
        "reading a directory",
        "(drop (call $fd_readdir (i32.const 3) (i32.const 64) (i32.const 1024) (i64.const 0) (i32.const 8)))",
        100_000,
    );
    host(
        "opening what is not there",
        "(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 100) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))",
        100_000,
    );
    cases
}
