// Runs instrumented modules on V8 and compares every step that can be seen from outside with what another engine did: each
// host call with its arguments, the counter and the whole memory at that moment, and the same at the end.
//
// node replay.mjs FOLDER: takes FOLDER/*.json, each with its module beside it; prints one line of JSON for each.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

class Stopped extends Error {}
class Different extends Error {}

function same(what, ours, recorded) {
  if (ours !== recorded) throw new Different(`${what}: V8 ${ours}, recorded ${recorded}`);
}

function digest(memory) {
  if (!memory) return "";
  let sum = 0x811c9dc5;
  for (const word of new Int32Array(memory.buffer)) sum = Math.imul(sum ^ word, 0x01000193);
  return (sum >>> 0).toString();
}

function replay(module, record) {
  let instance;
  let next = 0;
  const exported = (name) => instance.exports[name];
  const memory = () => (exported("memory") instanceof WebAssembly.Memory ? exported("memory") : null);
  const host = (name) => (...values) => {
    const call = record.calls[next++];
    if (!call) throw new Different(`host call ${next} was not recorded: ${name}`);
    const given = values.map((v) => (typeof v === "bigint" ? BigInt.asUintN(64, v) : v >>> 0).toString());
    same(`host call ${next}`, `${name}(${given})`, call.what);
    same(`counter at host call ${next}`, exported(record.counter).value.toString(), call.before);
    same(`memory at host call ${next}`, digest(memory()), call.memory);
    for (const [at, bytes] of call.writes) Buffer.from(memory().buffer).write(bytes, at, "hex");
    exported(record.counter).value = BigInt(call.after);
    if (call.answer === null) throw new Stopped();
    return call.answer;
  };
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = host(name);
  }
  try {
    instance = new WebAssembly.Instance(module, imports);
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    same("the end", "never began", record.end);
    return;
  }
  const counter = exported(record.counter).value + BigInt(record.granted);
  exported(record.counter).value = counter;
  let end = "returned";
  let result = "";
  for (const entry of counter < 0n ? [] : record.entries) {
    try {
      const value = exported(entry)();
      if (typeof value === "number") result = value.toString();
    } catch (error) {
      if (error instanceof Different) throw error;
      if (error instanceof RangeError) throw error;
      end = error instanceof Stopped ? "stopped" : "trapped";
      break;
    }
  }
  same("the end", end, record.end);
  same("host calls", next, record.calls.length);
  same("counter at the end", exported(record.counter).value.toString(), record.left);
  same("memory at the end", digest(memory()), record.memory);
  if (record.result !== "") same("the result", result, Number(record.result).toString());
}

for (const file of readdirSync(process.argv[2]).filter((name) => name.endsWith(".json")).sort()) {
  const record = JSON.parse(readFileSync(join(process.argv[2], file)));
  let outcome = "same";
  let reason = "";
  try {
    const module = new WebAssembly.Module(readFileSync(join(process.argv[2], file.replace(/json$/, "wasm"))));
    replay(module, record);
  } catch (error) {
    reason = error.message;
    outcome =
      error instanceof WebAssembly.CompileError ? "unknown" : error instanceof RangeError ? "machine" : "different";
  }
  console.log(JSON.stringify({ outcome, name: record.name, reason }));
}
