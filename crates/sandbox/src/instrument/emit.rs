//! Second pass over a function: copies its bytes and writes what was planned between them.

use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};

use super::counter::{self, BEYOND, STACK_BITS, STACK_MASK};
use super::plan::{Action, Kind, Plan};
use super::{Counter, Options};
use crate::operators::Shape;

const CANONICAL_F32: u32 = 0x7fc0_0000;
const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;

/// Injected locals, created when first needed.
#[derive(Default)]
struct Locals {
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

/// Writes one function, its length before it, after what `out` already holds.
pub(super) fn emit(body: &[u8], plan: &Plan, global: u32, options: Options, out: &mut Vec<u8>) -> usize {
    let mut code = Vec::with_capacity(body.len() * 2);
    let locals = Locals { first: plan.locals, ..Locals::default() };
    let units = if options.stack { plan.stack.cast_signed() } else { 0 };
    let mut writer = Writer { plan, global, options, units, locals, code: &mut code };
    let mut copied = plan.code_at as usize;
    for action in &plan.actions {
        let at = action.at as usize;
        writer.code.extend_from_slice(&body[copied..at]);
        copied = at;
        writer.action(action);
    }
    writer.code.extend_from_slice(&body[copied..]);
    let types = writer.locals.types;

    let mut head = Vec::new();
    (plan.local_groups + types.len() as u32).encode(&mut head);
    let groups_at = leb_len(body);
    head.extend_from_slice(&body[groups_at..plan.code_at as usize]);
    for ty in types {
        1u32.encode(&mut head);
        ty.encode(&mut head);
    }
    let length = head.len() + code.len();
    (length as u32).encode(out);
    out.extend_from_slice(&head);
    out.extend_from_slice(&code);
    length
}

/// Length of the number that a body starts with.
fn leb_len(body: &[u8]) -> usize {
    body.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1
}

struct Writer<'a> {
    plan: &'a Plan,
    /// The counter's index.
    global: u32,
    options: Options,
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
        if let Kind::Canonical { shape: Some(shape), needed: true } = action.kind {
            self.canonical(shape);
        }
        if self.options.fuel == Counter::Off {
            return;
        }
        match action.kind {
            Kind::Entry { fuel } => self.entry(fuel),
            Kind::Charge { fuel, check } => self.charge(fuel, check),
            Kind::Publish => self.publish(),
            Kind::Reload { caught } => self.reload(caught),
            Kind::HostCheck { counter_in_global } => self.host_check(counter_in_global),
            Kind::Leave { ahead, behind } => self.leave(ahead, behind),
            Kind::Finish { ahead, behind } => self.finish(ahead, behind),
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
        self.sink().global_get(global).i64_const(units - price(fuel)).i64_add();
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

    /// Where the counter stays in the global, a branch out of the function that was not taken or an exception may have
    /// left another level there.
    fn set_level(&mut self) {
        if self.plan.global_counter && self.units != 0 {
            let (level, global) = (self.locals.level(), self.global);
            self.sink().global_get(global).i64_const(!STACK_MASK).i64_and();
            self.sink().local_get(level).i64_or().global_set(global);
        }
    }

    /// Makes the global exact for the caller.
    fn leave(&mut self, ahead: bool, behind: bool) {
        let (global, units) = (self.global, self.units);
        if units == 0 {
            if ahead {
                self.publish();
            }
            return;
        }
        if behind {
            self.sink().global_get(global);
        } else {
            self.get_counter();
        }
        self.sink().i64_const(units).i64_sub().global_set(global);
    }

    fn finish(&mut self, ahead: bool, behind: bool) {
        self.leave(ahead, behind);
        if self.plan.wrapped.is_some() {
            self.sink().end();
            self.reload(true);
            self.set_level();
            self.leave(true, false);
        }
    }

    /// The global is exact here; the local too unless a call has just returned.
    fn host_check(&mut self, counter_in_global: bool) {
        if counter_in_global {
            let global = self.global;
            self.sink().global_get(global);
        } else {
            self.get_counter();
        }
        self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
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
