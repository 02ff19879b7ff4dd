// WebAssembly modules and components as lists of sections: read, changed, written again.
//
// Only what a snapshot needs: exports, globals, memory and data of a core module, and the core module within a
// component. All other sections keep their bytes.

const CORE_MODULE = 1;
const SECTION = { memory: 5, global: 6, export: 7, data: 11, dataCount: 12 };
const GLOBAL = 3;
const PAGE = 65536;
/** Zeros that are worth a segment's end: its header is up to 12 bytes, and engines copy whole pages anyway. */
const GAP_BYTES_MIN = 64;

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  get done() {
    return this.at >= this.bytes.length;
  }
  byte() {
    return this.bytes[this.at++];
  }
  u32() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  }
  skipLeb() {
    while (this.byte() >= 128);
  }
  take(length) {
    return this.bytes.subarray(this.at, (this.at += length));
  }
  name() {
    return Buffer.from(this.take(this.u32())).toString();
  }
}

export function u32(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  bytes.push(value);
  return Buffer.from(bytes);
}

function signed(value, bits) {
  const bytes = [];
  for (let left = BigInt.asIntN(bits, BigInt(value)); ; left >>= 7n) {
    const byte = Number(left & 127n);
    const last = (left >> 7n === 0n && byte < 64) || (left >> 7n === -1n && byte >= 64);
    bytes.push(last ? byte : byte | 128);
    if (last) return Buffer.from(bytes);
  }
}

const sized = (bytes) => Buffer.concat([u32(bytes.length), bytes]);
const vector = (items) => Buffer.concat([u32(items.length), ...items]);

/** The sections of a module or component, behind its header of eight bytes. */
export function sections(bytes) {
  const reader = new Reader(bytes);
  reader.take(8);
  const found = [];
  while (!reader.done) {
    const id = reader.byte();
    found.push({ id, body: reader.take(reader.u32()) });
  }
  return found;
}

/** The opposite of `sections`, with the header of `original`. */
export function assemble(original, list) {
  return Buffer.concat([original.subarray(0, 8), ...list.flatMap(({ id, body }) => [Buffer.of(id), sized(body)])]);
}

const section = (list, id) => list.find((section) => section.id === id);

function exportsOf(list) {
  const reader = new Reader(section(list, SECTION.export).body);
  return Array.from({ length: reader.u32() }, () => {
    const name = reader.name();
    return { name, kind: reader.byte(), index: reader.u32() };
  });
}

function writeExports(list, all) {
  const entry = ({ name, kind, index }) => Buffer.concat([sized(Buffer.from(name)), Buffer.of(kind), u32(index)]);
  section(list, SECTION.export).body = vector(all.map(entry));
}

/** The module's own globals; it imports none. */
function globalsOf(list) {
  const reader = new Reader(section(list, SECTION.global).body);
  return Array.from({ length: reader.u32() }, () => {
    const type = reader.byte();
    const mutable = reader.byte() === 1;
    const start = reader.at;
    const opcode = reader.byte();
    if (opcode === 0x43) reader.take(4);
    else if (opcode === 0x44) reader.take(8);
    else if ([0x23, 0x41, 0x42, 0xd0, 0xd2].includes(opcode)) reader.skipLeb();
    else throw new Error(`a global begins with opcode ${opcode}`);
    if (reader.byte() !== 0x0b) throw new Error('a global is more than a constant');
    return { type, mutable, initial: reader.bytes.subarray(start, reader.at) };
  });
}

const globalName = (index) => `gilliam:global-${index}`;

/** The module with its mutable globals exported, so that they can be read when it has run. */
export function exposed(bytes) {
  const list = sections(bytes);
  const all = exportsOf(list);
  globalsOf(list).forEach(({ mutable }, index) => {
    if (mutable) all.push({ name: globalName(index), kind: GLOBAL, index });
  });
  writeExports(list, all);
  return assemble(bytes, list);
}

/** The module without some of its exports. */
export function without(bytes, names) {
  const list = sections(bytes);
  writeExports(list, exportsOf(list).filter(({ name }) => !names.includes(name)));
  return assemble(bytes, list);
}

function constant(type, value) {
  const number = Buffer.alloc(8);
  switch (type) {
    case 0x7f:
      return Buffer.concat([Buffer.of(0x41), signed(value, 32), Buffer.of(0x0b)]);
    case 0x7e:
      return Buffer.concat([Buffer.of(0x42), signed(value, 64), Buffer.of(0x0b)]);
    case 0x7d:
      number.writeFloatLE(value);
      return Buffer.concat([Buffer.of(0x43), number.subarray(0, 4), Buffer.of(0x0b)]);
    case 0x7c:
      number.writeDoubleLE(value);
      return Buffer.concat([Buffer.of(0x44), number, Buffer.of(0x0b)]);
    default:
      throw new Error(`a mutable global of type ${type}`);
  }
}

/** Where memory is not zero, as ranges that no long run of zeros interrupts. */
function ranges(memory) {
  const words = new BigUint64Array(memory.buffer, memory.byteOffset, memory.length / 8);
  const found = [];
  let start = -1;
  let end = 0;
  for (let word = 0; word < words.length; word++) {
    if (words[word] === 0n) continue;
    const at = word * 8;
    if (start < 0) start = at;
    else if (at - end >= GAP_BYTES_MIN) {
      found.push([start, end]);
      start = at;
    }
    end = at + 8;
  }
  if (start >= 0) found.push([start, end]);
  return found;
}

/** A core module that starts as an instance stands: its memory, and its exposed globals. */
function resumed(bytes, instance) {
  const list = sections(bytes);
  const memory = new Uint8Array(instance.memory.buffer);
  section(list, SECTION.global).body = vector(
    globalsOf(list).map(({ type, mutable, initial }, index) => {
      const value = mutable ? constant(type, instance[globalName(index)].value) : initial;
      return Buffer.concat([Buffer.of(type, mutable ? 1 : 0), value]);
    }),
  );
  const limits = new Reader(section(list, SECTION.memory).body);
  if (limits.u32() !== 1 || limits.byte() !== 0) throw new Error('the engine has another memory than one without a maximum');
  section(list, SECTION.memory).body = Buffer.concat([Buffer.of(1, 0), u32(memory.length / PAGE)]);
  const segments = ranges(memory).map(([start, end]) =>
    Buffer.concat([Buffer.of(0), constant(0x7f, start), sized(memory.subarray(start, end))]),
  );
  section(list, SECTION.data).body = vector(segments);
  const count = section(list, SECTION.dataCount);
  if (count) count.body = u32(segments.length);
  return assemble(bytes, list);
}

/** The component with its largest core module resumed as an instance stands. */
export function snapshot(component, instance) {
  const list = sections(component);
  const modules = list.filter(({ id }) => id === CORE_MODULE);
  const engine = modules.reduce((one, other) => (other.body.length > one.body.length ? other : one));
  engine.body = resumed(engine.body, instance);
  return assemble(component, list);
}
