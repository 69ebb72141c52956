//! Second pass over a function: copies its bytes and writes what was planned between them.

use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};

use super::counter::{self, BEYOND, STACK_BITS, STACK_MASK};
use super::function::Context;
use super::plan::{Action, Instead, Kind, Plan};
use super::{Counter, NanRule, Options};
use crate::operators::Shape;
use crate::profile::FUNCTION_MAX;

const CANONICAL_F32: u32 = 0x7fc0_0000;
const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;

/// Injected locals, created when first needed.
#[derive(Default)]
struct Locals {
    /// Index of the first of them.
    first: u32,
    types: Vec<ValType>,
    counter: Option<u32>,
    level: Option<u32>,
    length: Option<u32>,
    floats: [Option<u32>; 3],
}

impl Locals {
    fn get(place: &mut Option<u32>, types: &mut Vec<ValType>, first: u32, ty: ValType) -> u32 {
        *place.get_or_insert_with(|| {
            types.push(ty);
            first + types.len() as u32 - 1
        })
    }

    fn counter(&mut self) -> u32 {
        Self::get(&mut self.counter, &mut self.types, self.first, ValType::I64)
    }

    /// The stack units with this function's own, where the counter stays in the global.
    fn level(&mut self) -> u32 {
        Self::get(&mut self.level, &mut self.types, self.first, ValType::I64)
    }

    /// A length, or a place in a table.
    fn length(&mut self) -> u32 {
        Self::get(&mut self.length, &mut self.types, self.first, ValType::I32)
    }

    fn float(&mut self, shape: Shape) -> u32 {
        let (place, ty) = match shape {
            Shape::F32 => (0, ValType::F32),
            Shape::F64 => (1, ValType::F64),
            Shape::F32x4 | Shape::F64x2 => (2, ValType::V128),
        };
        Self::get(&mut self.floats[place], &mut self.types, self.first, ty)
    }
}

/// Writes one function, its length before it, after what `out` already holds. Returns the bytes that it has with all rules
/// injected, whatever this engine needs of them: limits are the same for all. Stops where a function gets longer than any may.
pub(super) fn emit(body: &[u8], plan: &Plan, global: u32, context: Context<'_>, out: &mut Vec<u8>) -> u64 {
    let function = written(body, plan, global, context);
    let mut longest = function.len();
    if context.options.nan == NanRule::Engine && plan.canonicalises() {
        let options = Options { nan: NanRule::Injected, ..context.options };
        longest = written(body, plan, global, Context { options, ..context }).len();
    }
    (function.len() as u32).encode(out);
    out.extend_from_slice(&function);
    longest as u64
}

/// The function, without its length.
fn written(body: &[u8], plan: &Plan, global: u32, context: Context<'_>) -> Vec<u8> {
    let mut code = Vec::with_capacity(body.len() * 2);
    let mut groups = plan.local_groups.clone();
    let mut locals = Locals { first: plan.locals, ..Locals::default() };
    if context.passes() {
        // The counter takes the index after the other parameters; the local that had it goes behind all others.
        locals.first += 1;
        locals.counter = Some(plan.parameters);
        if let Some(first) = groups.iter_mut().find(|group| group.0 > 0) {
            first.0 -= 1;
            let moved = (1, first.1);
            groups.push(moved);
        }
    }
    let units = if context.options.stack { plan.stack.cast_signed() } else { 0 };
    let mut writer = Writer { plan, global, context, units, locals, code: &mut code };
    let mut copied = plan.code_at as usize;
    for action in &plan.actions {
        let at = action.at as usize;
        writer.code.extend_from_slice(&body[copied..at]);
        copied = at;
        writer.action(action);
        if let Kind::Instead { end, .. } = action.kind {
            copied = end as usize;
        }
        if writer.code.len() as u64 > FUNCTION_MAX {
            return code;
        }
    }
    writer.code.extend_from_slice(&body[copied..]);
    groups.extend(writer.locals.types.iter().map(|ty| (1, *ty)));

    let mut head = Vec::new();
    (groups.len() as u32).encode(&mut head);
    for (count, ty) in groups {
        count.encode(&mut head);
        ty.encode(&mut head);
    }
    head.extend_from_slice(&code);
    head
}

struct Writer<'a> {
    plan: &'a Plan,
    /// The counter's index.
    global: u32,
    context: Context<'a>,
    /// Stack units of one call.
    units: i64,
    locals: Locals,
    code: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(self.code)
    }

    fn action(&mut self, action: &Action) {
        if let Kind::Canonical { shape: Some(shape), needed: true } = action.kind
            && self.context.options.nan == NanRule::Injected
        {
            self.canonical(shape);
        }
        if self.context.options.fuel == Counter::Off {
            return;
        }
        match action.kind {
            Kind::Entry { fuel } => self.entry(fuel),
            Kind::Charge { fuel, check } => self.charge(fuel, check),
            Kind::Publish => self.publish(),
            Kind::Reload { caught } => self.reload(caught),
            Kind::HostCheck => self.host_check(),
            Kind::Leave => self.leave(),
            Kind::Finish { caught } => self.finish(caught),
            Kind::Instead { of, .. } => self.instead(of),
            Kind::Bulk { per, every } => self.bulk(per, every),
            Kind::Canonical { .. } => {}
        }
    }

    fn get_counter(&mut self) {
        if self.plan.global_counter {
            let global = self.global;
            self.sink().global_get(global);
        } else {
            let local = self.locals.counter();
            self.sink().local_get(local);
        }
    }

    fn set_counter(&mut self) {
        if self.plan.global_counter {
            let global = self.global;
            self.sink().global_set(global);
        } else {
            let local = self.locals.counter();
            self.sink().local_set(local);
        }
    }

    /// Sets the counter to the number on the stack and leaves it there.
    fn tee_counter(&mut self) {
        if self.plan.global_counter {
            self.set_counter();
            self.get_counter();
        } else {
            let local = self.locals.counter();
            self.sink().local_tee(local);
        }
    }

    fn publish(&mut self) {
        if !self.plan.global_counter {
            let (local, global) = (self.locals.counter(), self.global);
            self.sink().local_get(local).global_set(global);
        }
    }

    /// The local takes the global's value. Where an exception may have been caught, the stack's level stays the local's.
    fn reload(&mut self, caught: bool) {
        if self.plan.global_counter {
            return;
        }
        let (local, global) = (self.locals.counter(), self.global);
        self.sink().global_get(global);
        if caught && self.units != 0 {
            self.sink().i64_const(!STACK_MASK).i64_and();
            self.sink().local_get(local).i64_const(STACK_MASK).i64_and().i64_or();
        }
        self.sink().local_set(local);
    }

    /// Takes the stack rule's units and the first block's price, and looks at both limits with one branch.
    fn entry(&mut self, fuel: u64) {
        let (global, units) = (self.global, self.units);
        if self.context.passes() {
            let passed = self.plan.parameters;
            self.sink().local_get(passed);
        } else {
            self.get_counter();
        }
        self.sink().i64_const(units - price(fuel)).i64_add();
        self.tee_counter();
        self.sink().i64_const(if units == 0 { i64::MIN } else { BEYOND }).i64_and();
        self.sink().i64_const(0).i64_ne().if_(BlockType::Empty);
        self.publish();
        self.sink().unreachable().end();
        if self.plan.global_counter && units != 0 {
            let level = self.locals.level();
            self.sink().global_get(global).i64_const(STACK_MASK).i64_and().local_set(level);
        }
        if let Some(ty) = self.plan.wrapped {
            self.sink().block(ty);
        }
    }

    fn charge(&mut self, fuel: u64, check: bool) {
        self.set_level();
        if fuel > 0 {
            self.get_counter();
            self.sink().i64_const(price(fuel)).i64_sub();
            if check {
                self.tee_counter();
            } else {
                self.set_counter();
            }
        } else if check {
            self.get_counter();
        }
        if check {
            self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty);
            self.publish();
            self.sink().unreachable().end();
        }
    }

    /// Where the counter stays in the global, an exception may have left another level there.
    fn set_level(&mut self) {
        if self.plan.global_counter && self.units != 0 {
            let (level, global) = (self.locals.level(), self.global);
            self.sink().global_get(global).i64_const(!STACK_MASK).i64_and();
            self.sink().local_get(level).i64_or().global_set(global);
        }
    }

    /// Gives the caller the counter.
    fn leave(&mut self) {
        let (passes, units) = (self.context.passes(), self.units);
        if units == 0 && !passes {
            return;
        }
        self.get_counter();
        if units != 0 {
            self.sink().i64_const(units).i64_sub();
        }
        if !passes {
            self.set_counter();
        }
    }

    fn finish(&mut self, caught: bool) {
        if self.plan.wrapped.is_some() {
            self.sink().end();
            if caught {
                self.reload(true);
                self.set_level();
            }
        }
        self.leave();
    }

    /// The global is exact here.
    fn host_check(&mut self) {
        self.get_counter();
        self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    }

    fn instead(&mut self, of: Instead) {
        let Context { passing_types, import_wrappers, .. } = self.context;
        let moved = self.plan.locals;
        match of {
            Instead::Call { function } => {
                self.get_counter();
                self.sink().call(function);
                self.set_counter();
            }
            Instead::CallIndirect { ty, table } => {
                let place = self.locals.length();
                self.sink().local_set(place);
                self.get_counter();
                self.sink().local_get(place).call_indirect(table, passing_types + ty);
                self.set_counter();
            }
            Instead::RefFunc { import } => {
                self.sink().ref_func(import_wrappers + import);
            }
            Instead::LocalGet => {
                self.sink().local_get(moved);
            }
            Instead::LocalSet => {
                self.sink().local_set(moved);
            }
            Instead::LocalTee => {
                self.sink().local_tee(moved);
            }
        }
    }

    /// The length is an unsigned 32-bit number, so that no product leaves 64 bits and the counter cannot wrap (a test
    /// of the prices sees to it).
    fn bulk(&mut self, per: u32, every: u32) {
        let length = self.locals.length();
        self.sink().local_set(length);
        self.get_counter();
        self.sink().local_get(length).i64_extend_i32_u();
        if per != 1 {
            self.sink().i64_const(per.into()).i64_mul();
        }
        if every != 1 {
            self.sink().i64_const(every.into()).i64_div_u();
        }
        self.sink().i64_const(STACK_BITS.into()).i64_shl().i64_sub();
        self.set_counter();
        self.publish();
        self.get_counter();
        self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
        self.sink().local_get(length);
    }

    /// `x == x ? x : NaN`, lane by lane. For vectors behind a branch that is hardly ever taken: in a sum over vectors, each
    /// addition would wait for the comparison otherwise. (For scalars, compilers make such a branch of `select`.)
    fn canonical(&mut self, shape: Shape) {
        let local = self.locals.float(shape);
        let mut sink = self.sink();
        match shape {
            Shape::F32 => {
                sink.local_tee(local).f32_const(f32::from_bits(CANONICAL_F32).into());
                sink.local_get(local).local_get(local).f32_eq().select();
            }
            Shape::F64 => {
                sink.local_tee(local).f64_const(f64::from_bits(CANONICAL_F64).into());
                sink.local_get(local).local_get(local).f64_eq().select();
            }
            Shape::F32x4 => {
                sink.local_tee(local).local_get(local).f32x4_ne().v128_any_true().if_(BlockType::Empty);
                sink.local_get(local).v128_const(i128::from_ne_bytes(lanes(CANONICAL_F32.to_ne_bytes())));
                sink.local_get(local).local_get(local).f32x4_eq().v128_bitselect().local_set(local).end();
                sink.local_get(local);
            }
            Shape::F64x2 => {
                sink.local_tee(local).local_get(local).f64x2_ne().v128_any_true().if_(BlockType::Empty);
                sink.local_get(local).v128_const(i128::from_ne_bytes(lanes(CANONICAL_F64.to_ne_bytes())));
                sink.local_get(local).local_get(local).f64x2_eq().v128_bitselect().local_set(local).end();
                sink.local_get(local);
            }
        }
    }
}

/// What the counter loses for so much fuel.
fn price(fuel: u64) -> i64 {
    counter::with_fuel(fuel.cast_signed())
}

/// A vector with the same bytes in each lane.
fn lanes<const N: usize>(lane: [u8; N]) -> [u8; 16] {
    std::array::from_fn(|at| lane[at % N])
}
