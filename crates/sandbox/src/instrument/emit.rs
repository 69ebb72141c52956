//! Second pass over a function: copies its bytes and writes what was planned between them.

use wasm_encoder::{BlockType, Encode, InstructionSink, ValType};

use super::plan::{Action, Kind, Plan};
use super::{Counter, Options};
use crate::operators::Shape;

const CANONICAL_F32: u32 = 0x7fc0_0000;
const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;

/// Where the injected globals are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Globals {
    pub fuel: u32,
    pub stack: u32,
}

/// Injected locals, created when first needed.
#[derive(Default)]
struct Locals {
    first: u32,
    types: Vec<ValType>,
    fuel: Option<u32>,
    stack: Option<u32>,
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

    fn fuel(&mut self) -> u32 {
        Self::get(&mut self.fuel, &mut self.types, self.first, ValType::I64)
    }

    fn stack(&mut self) -> u32 {
        Self::get(&mut self.stack, &mut self.types, self.first, ValType::I64)
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
pub(super) fn emit(body: &[u8], plan: &Plan, globals: Globals, options: Options, out: &mut Vec<u8>) -> usize {
    let mut code = Vec::with_capacity(body.len() * 2);
    let locals = Locals { first: plan.locals, ..Locals::default() };
    let mut writer = Writer { plan, globals, options, locals, code: &mut code };
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
    globals: Globals,
    options: Options,
    locals: Locals,
    code: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(self.code)
    }

    fn action(&mut self, action: &Action) {
        let fuel_on = self.options.fuel != Counter::Off;
        match action.kind {
            Kind::Entry { fuel } => self.entry(fuel),
            Kind::Charge { fuel, check } if fuel_on && (fuel > 0 || check) => self.charge(fuel, check),
            Kind::Publish if fuel_on => self.publish(),
            Kind::Reload if fuel_on && !self.plan.global_counter => {
                let (local, global) = (self.locals.fuel(), self.globals.fuel);
                self.sink().global_get(global).local_set(local);
            }
            Kind::HostCheck { counter_in_global } if fuel_on => self.host_check(counter_in_global),
            Kind::PassStack if self.options.stack => {
                let (local, global) = (self.locals.stack(), self.globals.stack);
                self.sink().local_get(local).global_set(global);
            }
            Kind::Bulk { per, every } if fuel_on => self.bulk(per, every),
            Kind::Canonical { shape: Some(shape), needed: true } => self.canonical(shape),
            _ => {}
        }
    }

    fn get_counter(&mut self) {
        if self.plan.global_counter {
            let global = self.globals.fuel;
            self.sink().global_get(global);
        } else {
            let local = self.locals.fuel();
            self.sink().local_get(local);
        }
    }

    fn set_counter(&mut self) {
        if self.plan.global_counter {
            let global = self.globals.fuel;
            self.sink().global_set(global);
        } else {
            let local = self.locals.fuel();
            self.sink().local_set(local);
        }
    }

    fn publish(&mut self) {
        if !self.plan.global_counter {
            let (local, global) = (self.locals.fuel(), self.globals.fuel);
            self.sink().local_get(local).global_set(global);
        }
    }

    /// Takes the stack rule's units and the first block's price, and looks at both limits with one branch.
    fn entry(&mut self, fuel: u64) {
        let Globals { fuel: fuel_global, stack: stack_global } = self.globals;
        let (fuel_on, stack_on) = (self.options.fuel != Counter::Off, self.options.stack);
        let units = self.plan.stack as i64;
        if stack_on {
            self.sink().global_get(stack_global).i64_const(units).i64_sub();
            if self.plan.calls {
                let local = self.locals.stack();
                self.sink().local_tee(local);
            }
        }
        if fuel_on {
            self.sink().global_get(fuel_global).i64_const(fuel as i64).i64_sub();
            if self.plan.global_counter {
                self.sink().global_set(fuel_global).global_get(fuel_global);
            } else {
                let local = self.locals.fuel();
                self.sink().local_tee(local);
            }
        }
        if stack_on && fuel_on {
            self.sink().i64_or();
        }
        if !stack_on && !fuel_on {
            return;
        }
        self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty);
        if fuel_on {
            self.publish();
        }
        if stack_on {
            // Recomputed rather than kept: this code runs at most once.
            self.sink().global_get(stack_global).i64_const(units).i64_sub().global_set(stack_global);
        }
        self.sink().unreachable().end();
    }

    fn charge(&mut self, fuel: u64, check: bool) {
        if fuel > 0 {
            self.get_counter();
            self.sink().i64_const(fuel as i64).i64_sub();
            if check && !self.plan.global_counter {
                let local = self.locals.fuel();
                self.sink().local_tee(local);
            } else {
                self.set_counter();
                if check {
                    self.get_counter();
                }
            }
        } else {
            self.get_counter();
        }
        if check {
            self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty);
            self.publish();
            self.sink().unreachable().end();
        }
    }

    /// The global is exact here; the local too unless a call has just returned.
    fn host_check(&mut self, counter_in_global: bool) {
        if counter_in_global {
            let global = self.globals.fuel;
            self.sink().global_get(global);
        } else {
            self.get_counter();
        }
        self.sink().i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    }

    /// The length is an unsigned 32-bit number, so that no product leaves 64 bits and the counter cannot wrap.
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
        self.sink().i64_sub();
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

/// A vector with the same bytes in each lane.
fn lanes<const N: usize>(lane: [u8; N]) -> [u8; 16] {
    std::array::from_fn(|at| lane[at % N])
}
