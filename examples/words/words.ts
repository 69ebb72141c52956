// Counts the words of its input.
function readAll(): string {
  const parts: u8[] = [];
  const buffer = new ArrayBuffer(65536);
  for (let size = process.stdin.read(buffer); size > 0; size = process.stdin.read(buffer)) {
    const bytes = Uint8Array.wrap(buffer, 0, size);
    for (let i = 0; i < size; i++) parts.push(bytes[i]);
  }
  return String.UTF8.decodeUnsafe(parts.dataStart, parts.length);
}

const words = readAll().split(" ").filter((word) => word.length > 0);
process.stderr.write("read everything\n");
process.stdout.write(words.length.toString() + "\n");
