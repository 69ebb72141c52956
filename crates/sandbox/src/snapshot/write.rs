//! Writes a module's state back into the module.

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    Instruction, MemorySection, MemoryType, Module, TypeSection,
};
use wasmparser::{Parser, Payload};

use super::SnapshotError;
use super::run::Image;
use wasmtime::Val;

type Encoded<T> = Result<T, reencode::Error<SnapshotError>>;

/// Zeros that are worth a segment of their own on each side.
const GAP: usize = 256;
const PAGE: usize = 65_536;

pub(super) fn write(reactor: &[u8], image: &Image) -> Result<Vec<u8>, SnapshotError> {
    let mut writer = Writer { image, types: 0, functions: 0, turn: None, exit: None, has_data: false };
    writer.survey(reactor)?;
    let mut out = Module::new();
    writer.parse_core_module(&mut out, Parser::new(0), reactor)?;
    if !writer.has_data {
        return Err(SnapshotError::Unfit("it has no data".into()));
    }
    Ok(out.finish())
}

struct Writer<'a> {
    image: &'a Image,
    types: u32,
    functions: u32,
    turn: Option<u32>,
    exit: Option<u32>,
    has_data: bool,
}

impl Writer<'_> {
    fn survey(&mut self, reactor: &[u8]) -> Result<(), SnapshotError> {
        for payload in Parser::new(0).parse_all(reactor) {
            match payload? {
                Payload::ImportSection(section) => {
                    for (index, import) in section.into_imports().enumerate() {
                        let import = import?;
                        if (import.module, import.name) == ("wasi_snapshot_preview1", "proc_exit") {
                            self.exit = Some(index as u32);
                        }
                        self.functions += 1;
                    }
                }
                Payload::FunctionSection(section) => self.functions += section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.name == "turn" {
                            self.turn = Some(export.index);
                        }
                    }
                }
                Payload::DataCountSection { .. } => {
                    return Err(SnapshotError::Unfit("it counts its data segments, so it may drop them".into()));
                }
                Payload::StartSection { .. } => {
                    return Err(SnapshotError::Unfit("it has a start function, which would run again".into()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn start(&self) -> Result<Function, SnapshotError> {
        let (Some(turn), Some(exit)) = (self.turn, self.exit) else {
            return Err(SnapshotError::Unfit("it exports no turn, or does not import proc_exit".into()));
        };
        let mut start = Function::new([]);
        start
            .instruction(&Instruction::I32Const(self.image.entry.0))
            .instruction(&Instruction::I32Const(self.image.entry.1))
            .instruction(&Instruction::Call(turn))
            .instruction(&Instruction::Call(exit))
            .instruction(&Instruction::End);
        Ok(start)
    }
}

impl Reencode for Writer<'_> {
    type Error = SnapshotError;

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

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Encoded<()> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.types);
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Encoded<()> {
        for memory in section {
            let memory = self.memory_type(memory?)?;
            memories.memory(MemoryType { minimum: (self.image.memory.len() / PAGE) as u64, ..memory });
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Encoded<()> {
        for (index, global) in section.into_iter().enumerate() {
            let global = global?;
            let now = self.image.globals.iter().find(|(at, _)| *at as usize == index);
            match now {
                Some((_, value)) => {
                    let value = match *value {
                        Val::I32(value) => ConstExpr::i32_const(value),
                        Val::I64(value) => ConstExpr::i64_const(value),
                        Val::F32(bits) => ConstExpr::f32_const(wasm_encoder::Ieee32::new(bits)),
                        Val::F64(bits) => ConstExpr::f64_const(wasm_encoder::Ieee64::new(bits)),
                        _ => {
                            let error = SnapshotError::Unfit(format!("global {index} holds no number"));
                            return Err(reencode::Error::UserError(error));
                        }
                    };
                    globals.global(self.global_type(global.ty)?, &value);
                }
                None => self.parse_global(globals, global)?,
            }
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Encoded<()> {
        for export in section {
            let export = export?;
            if export.name == "memory" {
                self.parse_export(exports, export)?;
            }
        }
        exports.export("_start", ExportKind::Func, self.functions);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Encoded<()> {
        // Nothing in the bodies changes.
        for body in section {
            code.raw(body?.as_bytes());
        }
        code.function(&self.start().map_err(reencode::Error::UserError)?);
        Ok(())
    }

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        _section: wasmparser::DataSectionReader<'_>,
    ) -> Encoded<()> {
        self.has_data = true;
        for (at, bytes) in segments(&self.image.memory) {
            data.active(0, &ConstExpr::i32_const((at as u32).cast_signed()), bytes.iter().copied());
        }
        Ok(())
    }
}

/// The parts of a memory between longer runs of zeros, each with its address.
fn segments(memory: &[u8]) -> Vec<(usize, &[u8])> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < memory.len() {
        if memory[at] == 0 {
            at += 1;
            continue;
        }
        let end = memory[at..].iter().position(|byte| *byte == 0).map_or(memory.len(), |length| at + length);
        match parts.last_mut() {
            Some((_, last)) if at - *last < GAP => *last = end,
            _ => parts.push((at, end)),
        }
        at = end;
    }
    parts.into_iter().map(|(from, to)| (from, &memory[from..to])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_leave_out_long_zeros_only() {
        let mut memory = vec![0; 10_000];
        memory[5] = 1;
        memory[5 + GAP] = 2;
        memory[5 + 2 * GAP + 1] = 3;
        memory[9_999] = 4;
        let found: Vec<_> = segments(&memory).into_iter().map(|(at, bytes)| (at, bytes.len())).collect();
        assert_eq!(found, [(5, GAP + 1), (5 + 2 * GAP + 1, 1), (9_999, 1)]);
        let mut back = vec![0; memory.len()];
        for (at, bytes) in segments(&memory) {
            back[at..at + bytes.len()].copy_from_slice(bytes);
        }
        assert_eq!(back, memory);
        assert!(segments(&[0; 100]).is_empty());
    }
}
