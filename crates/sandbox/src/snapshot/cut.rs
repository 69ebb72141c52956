//! Leaves functions out of a module, and what nobody needs afterwards: names, debugging sections, unused foreign imports.

use std::collections::BTreeSet;
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction, Module, TypeSection,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef, ValType};

use super::{Recipe, SnapshotError, global_export};
use crate::profile::features;
use crate::wasi::Function as HostFunction;

type Encoded<T> = Result<T, reencode::Error<SnapshotError>>;

/// The global variable that compilers keep the address of the stack in.
const STACK_POINTER: u32 = 0;

/// The module without the functions that the recipe cuts, with its mutable globals exported.
pub(super) fn cut(module: &[u8], recipe: &Recipe<'_>) -> Result<Vec<u8>, SnapshotError> {
    let survey = survey(module, recipe.cut, recipe.constructors)?;
    if !recipe.padded.is_empty() && !survey.globals.contains(&STACK_POINTER) {
        return Err(SnapshotError::Unfit("its first global is no stack pointer".into()));
    }
    let mut cutter = Cutter { next_body: survey.imports.len() as u32, survey, padded: recipe.padded, types: 0 };
    let mut out = Module::new();
    cutter.parse_core_module(&mut out, Parser::new(0), module)?;
    Ok(out.finish())
}

/// What has to be known before the first section is written.
struct Survey {
    /// For each import whether it stays.
    imports: Vec<bool>,
    /// New index of each function; nothing for one that goes.
    places: Vec<Option<u32>>,
    /// Index of the function that stands in tables for those that go.
    trap: u32,
    /// The function whose calls to what goes are left out.
    constructors: Option<u32>,
    /// Mutable globals.
    globals: Vec<u32>,
}

fn survey(module: &[u8], ranges: &[Range<u32>], constructors: Option<u32>) -> Result<Survey, SnapshotError> {
    let goes = |index: u32| ranges.iter().any(|range| range.contains(&index));
    let mut known = Vec::new();
    let mut globals = Vec::new();
    let mut used = BTreeSet::new();
    let mut next = 0;
    let mut parser = Parser::new(0);
    parser.set_features(features());
    for payload in parser.parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if !matches!(import.ty, TypeRef::Func(_)) {
                        return Err(SnapshotError::Unfit(format!("it imports {}, no function", import.name)));
                    }
                    known.push(HostFunction::find(import.module, import.name).is_some());
                }
                next = known.len() as u32;
            }
            Payload::GlobalSection(section) => {
                for (index, global) in section.into_iter().enumerate() {
                    let ty = global?.ty;
                    if ty.mutable {
                        let number =
                            matches!(ty.content_type, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64);
                        if !number {
                            return Err(SnapshotError::Unfit(format!("global {index} holds no number")));
                        }
                        globals.push(index as u32);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let index = next;
                next += 1;
                if goes(index) {
                    continue;
                }
                for needed in needs(&body)? {
                    if !goes(needed) {
                        used.insert(needed);
                    } else if constructors != Some(index) {
                        return Err(SnapshotError::Needed { user: index, needed });
                    }
                }
            }
            _ => {}
        }
    }
    let mut count = 0;
    let mut places = Vec::with_capacity(next as usize);
    let mut imports = Vec::with_capacity(known.len());
    for index in 0..next {
        let import = known.get(index as usize).copied();
        if import == Some(false) && used.contains(&index) {
            return Err(SnapshotError::Unfit(format!("it calls import {index}, which no host offers")));
        }
        let stays = import.unwrap_or_else(|| !goes(index));
        if import.is_some() {
            imports.push(stays);
        }
        places.push(stays.then_some(count));
        count += u32::from(stays);
    }
    Ok(Survey { imports, places, trap: count, constructors, globals })
}

/// The functions that a body calls or names.
fn needs(body: &FunctionBody<'_>) -> Result<BTreeSet<u32>, SnapshotError> {
    let mut needed = BTreeSet::new();
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Call { function_index } | Operator::RefFunc { function_index } => {
                needed.insert(function_index);
            }
            // What these change is not in memory, and no snapshot holds it.
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. } => {
                return Err(SnapshotError::Unfit("it changes tables or drops segments while it runs".into()));
            }
            _ => {}
        }
    }
    Ok(needed)
}

struct Cutter<'a> {
    survey: Survey,
    padded: &'a [(u32, u32)],
    next_body: u32,
    types: u32,
}

impl Cutter<'_> {
    /// A body that moves the stack pointer down before it begins and up again when it ends.
    fn padded_body(&mut self, body: &FunctionBody<'_>, bytes: u32) -> Encoded<Function> {
        let move_by = |bytes: i32| {
            let get = Instruction::GlobalGet(STACK_POINTER);
            [get, Instruction::I32Const(bytes), Instruction::I32Add, Instruction::GlobalSet(STACK_POINTER)]
        };
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut function = self.new_function_with_parsed_locals(body)?;
        for instruction in move_by(-bytes) {
            function.instruction(&instruction);
        }
        // A block in place of the function's own: what leaves the function leaves the block.
        function.instruction(&Instruction::Block(BlockType::Empty));
        let mut depth = 0;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                    depth += 1;
                }
                // The last one ends the block.
                Operator::End => depth -= 1,
                _ => {}
            }
            let instruction = match operator {
                Operator::Return => Instruction::Br(depth as u32),
                operator => self.instruction(operator)?,
            };
            function.instruction(&instruction);
        }
        for instruction in move_by(bytes) {
            function.instruction(&instruction);
        }
        function.instruction(&Instruction::End);
        Ok(function)
    }
}

impl Reencode for Cutter<'_> {
    type Error = SnapshotError;

    fn function_index(&mut self, index: u32) -> Encoded<u32> {
        let place = self.survey.places.get(index as usize).copied();
        let place = place.ok_or_else(|| SnapshotError::Invalid(format!("there is no function {index}")));
        Ok(place.map_err(reencode::Error::UserError)?.unwrap_or(self.survey.trap))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Encoded<()> {
        utils::parse_type_section(self, types, section)?;
        self.types = types.len();
        types.ty().function([], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut wasm_encoder::ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Encoded<()> {
        let stay = self.survey.imports.clone();
        for (import, stays) in section.into_imports().zip(stay) {
            if stays {
                self.parse_import(imports, import?)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Encoded<()> {
        let first = self.survey.imports.len();
        for (ty, index) in section.into_iter().zip(first..) {
            if self.survey.places[index].is_some() {
                functions.function(ty?);
            }
        }
        functions.function(self.types);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Encoded<()> {
        for export in section {
            let export = export?;
            if matches!(export.name, "memory" | "_initialize" | "host_alloc" | "turn") {
                self.parse_export(exports, export)?;
            }
        }
        for global in &self.survey.globals {
            exports.export(&global_export(*global), ExportKind::Global, *global);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Encoded<()> {
        utils::parse_code_section(self, code, section)?;
        let mut trap = Function::new([]);
        trap.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
        code.function(&trap);
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Encoded<()> {
        let index = self.next_body;
        self.next_body += 1;
        if self.survey.places[index as usize].is_none() {
            return Ok(());
        }
        if let Some((_, bytes)) = self.padded.iter().find(|(function, _)| *function == index) {
            let padded = self.padded_body(&body, *bytes)?;
            code.function(&padded);
            return Ok(());
        }
        if self.survey.constructors != Some(index) {
            return utils::parse_function_body(self, code, body);
        }
        let mut function = self.new_function_with_parsed_locals(&body)?;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            // Constructors take and return nothing; validation finds it out if one does.
            let gone = matches!(operator, Operator::Call { function_index }
                if self.survey.places.get(function_index as usize) == Some(&None));
            if !gone {
                function.instruction(&self.instruction(operator)?);
            }
        }
        code.function(&function);
        Ok(())
    }

    fn parse_custom_section(&mut self, _: &mut Module, _: wasmparser::CustomSectionReader<'_>) -> Encoded<()> {
        Ok(())
    }
}
