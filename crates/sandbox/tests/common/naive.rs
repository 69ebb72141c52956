//! A second instrumentation, as simple as can be: pays for every single instruction in a global just before it runs, and
//! canonicalises the result of every single float instruction at once.

use noria_sandbox::prices;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, Encode, ExportKind, ExportSection, Function, GlobalSection, GlobalType,
    Instruction, Module, RawSection, ValType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Exported mutable `i64` global: fuel left.
pub const FUEL_EXPORT: &str = "naive_fuel";

#[derive(Clone, Copy)]
pub struct Naive {
    pub fuel: bool,
    pub nan: bool,
}

macro_rules! define_name {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        fn name(operator: &Operator<'_>) -> &'static str {
            match operator {
                $( Operator::$op { .. } => stringify!($visit), )*
                _ => unreachable!(),
            }
        }
    };
}
wasmparser::for_each_operator!(define_name);

/// Rewrites a module. Its start function is exported as `start` and not started.
pub fn rewrite(module: &[u8], what: Naive) -> Vec<u8> {
    let mut out = Module::new();
    let (mut globals, mut parameters) = (0, Vec::new());
    let (mut types, mut code) = (Vec::new(), CodeSection::new());
    let mut sections: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut exports = ExportSection::new();
    let mut exported_globals: Vec<u8> = vec![0];
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.unwrap();
        match &payload {
            Payload::TypeSection(section) => {
                for ty in section.clone().into_iter_err_on_gc_types() {
                    types.push(ty.unwrap().params().len() as u32);
                }
            }
            Payload::FunctionSection(section) => {
                parameters = section.clone().into_iter().map(|ty| types[ty.unwrap() as usize]).collect();
            }
            Payload::GlobalSection(section) => {
                globals = section.count();
                exported_globals = module[section.range()].to_vec();
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.unwrap();
                    exports.export(export.name, kind(export.kind), export.index);
                }
            }
            Payload::StartSection { func, .. } => {
                exports.export("start", ExportKind::Func, *func);
            }
            Payload::CodeSectionEntry(body) => {
                let index = code.len() as usize;
                code.function(&function(body, parameters[index], globals, what));
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section()
            && ![0, 6, 7, 8, 10].contains(&id)
        {
            sections.push((id, module[range].to_vec()));
        }
    }
    exports.export(FUEL_EXPORT, ExportKind::Global, globals);
    let mut ours = GlobalSection::new();
    let counter = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    ours.global(counter, &ConstExpr::i64_const(0));
    let mut global_data = Vec::new();
    (globals + 1).encode(&mut global_data);
    global_data.extend(&exported_globals[exported_globals.iter().take_while(|b| **b & 0x80 != 0).count() + 1..]);
    let mut encoded = Vec::new();
    ours.encode(&mut encoded);
    global_data.extend(&encoded[2..]);
    let (early, late): (Vec<_>, Vec<_>) = sections.into_iter().partition(|(id, _)| *id <= 5 || *id == 13);
    for (id, data) in &early {
        out.section(&RawSection { id: *id, data });
    }
    out.section(&RawSection { id: 6, data: &global_data }).section(&exports);
    for (id, data) in late.iter().filter(|(id, _)| *id != 11) {
        out.section(&RawSection { id: *id, data });
    }
    out.section(&code);
    for (id, data) in late.iter().filter(|(id, _)| *id == 11) {
        out.section(&RawSection { id: *id, data });
    }
    out.finish()
}

fn kind(kind: wasmparser::ExternalKind) -> ExportKind {
    match kind {
        wasmparser::ExternalKind::Func | wasmparser::ExternalKind::FuncExact => ExportKind::Func,
        wasmparser::ExternalKind::Table => ExportKind::Table,
        wasmparser::ExternalKind::Memory => ExportKind::Memory,
        wasmparser::ExternalKind::Global => ExportKind::Global,
        wasmparser::ExternalKind::Tag => ExportKind::Tag,
    }
}

fn function(body: &FunctionBody<'_>, parameters: u32, counter: u32, what: Naive) -> Function {
    let groups: Vec<(u32, wasmparser::ValType)> =
        body.get_locals_reader().unwrap().into_iter().map(|group| group.unwrap()).collect();
    let declared: u32 = groups.iter().map(|group| group.0).sum();
    let mut locals: Vec<(u32, ValType)> = groups.iter().map(|(count, ty)| (*count, value_type(*ty))).collect();
    locals.extend([(1, ValType::I32), (1, ValType::F32), (1, ValType::F64), (1, ValType::V128)]);
    let temporary = parameters + declared;
    let mut out = Function::new(locals);
    let pay = |out: &mut Function, fuel: u64| {
        if what.fuel && fuel > 0 {
            out.instruction(&Instruction::GlobalGet(counter))
                .instruction(&Instruction::I64Const(fuel as i64))
                .instruction(&Instruction::I64Sub)
                .instruction(&Instruction::GlobalSet(counter));
            stop_if_empty(out, counter);
        }
    };
    pay(&mut out, prices::price("function").unwrap().of(declared.into()));
    let mut reader = body.get_operators_reader().unwrap();
    while !reader.eof() {
        let at = reader.original_position();
        let operator = reader.read().unwrap();
        let name = name(&operator).trim_start_matches("visit_");
        let price = prices::price(name).unwrap();
        pay(&mut out, price.fuel.into());
        if what.fuel && price.per > 0 && name != "try_table" {
            out.instruction(&Instruction::LocalSet(temporary))
                .instruction(&Instruction::GlobalGet(counter))
                .instruction(&Instruction::LocalGet(temporary))
                .instruction(&Instruction::I64ExtendI32U)
                .instruction(&Instruction::I64Const(price.per.into()))
                .instruction(&Instruction::I64Mul)
                .instruction(&Instruction::I64Const(price.every.into()))
                .instruction(&Instruction::I64DivU)
                .instruction(&Instruction::I64Sub)
                .instruction(&Instruction::GlobalSet(counter));
            stop_if_empty(&mut out, counter);
            out.instruction(&Instruction::LocalGet(temporary));
        }
        let start = body.range().start;
        out.raw(body.as_bytes()[at - start..reader.original_position() - start].iter().copied());
        if what.nan {
            canonicalise(&mut out, name, temporary);
        }
    }
    out
}

fn stop_if_empty(out: &mut Function, counter: u32) {
    out.instruction(&Instruction::GlobalGet(counter))
        .instruction(&Instruction::I64Const(0))
        .instruction(&Instruction::I64LtS)
        .instruction(&Instruction::If(BlockType::Empty))
        .instruction(&Instruction::Unreachable)
        .instruction(&Instruction::End);
}

fn canonicalise(out: &mut Function, name: &str, temporary: u32) {
    const ARITHMETIC: [&str; 15] = [
        "add",
        "sub",
        "mul",
        "div",
        "min",
        "max",
        "sqrt",
        "ceil",
        "floor",
        "trunc",
        "nearest",
        "demote_f64",
        "promote_f32",
        "demote_f64x2_zero",
        "promote_low_f32x4",
    ];
    let (lanes, what) = name.split_once('_').unwrap_or((name, ""));
    if !ARITHMETIC.contains(&what) {
        return;
    }
    let (place, nan, equal, choose) = match lanes {
        "f32" => {
            (1, Instruction::F32Const(f32::from_bits(0x7fc0_0000).into()), Instruction::F32Eq, Instruction::Select)
        }
        "f64" => {
            (2, Instruction::F64Const(f64::from_bits(0x7ff8 << 48).into()), Instruction::F64Eq, Instruction::Select)
        }
        "f32x4" => (
            3,
            Instruction::V128Const(0x7fc0_0000_7fc0_0000_7fc0_0000_7fc0_0000),
            Instruction::F32x4Eq,
            Instruction::V128Bitselect,
        ),
        "f64x2" => (
            3,
            Instruction::V128Const(0x7ff8_0000_0000_0000_7ff8_0000_0000_0000),
            Instruction::F64x2Eq,
            Instruction::V128Bitselect,
        ),
        _ => return,
    };
    let local = temporary + place;
    out.instruction(&Instruction::LocalTee(local))
        .instruction(&nan)
        .instruction(&Instruction::LocalGet(local))
        .instruction(&Instruction::LocalGet(local))
        .instruction(&equal)
        .instruction(&choose);
}

fn value_type(ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(wasmparser::RefType::EXTERNREF) => ValType::EXTERNREF,
        wasmparser::ValType::Ref(_) => ValType::FUNCREF,
    }
}
