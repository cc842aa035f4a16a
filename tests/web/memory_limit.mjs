// A WebAssembly module whose memory cannot grow for ever, made from one whose memory can.

const MEMORY_SECTION = 5;

/** Pages a module starts with. @param {Uint8Array} module */
export function initialPages(module) {
  return memorySection(module).pages;
}

/** The module with a limit in its memory section. @param {Uint8Array} module */
export function withMaximum(module, pages) {
  const { start, initial, end } = memorySection(module);
  const body = [1, 1, ...initial, ...bytes(pages)];
  const section = [MEMORY_SECTION, ...bytes(body.length), ...body];
  return Buffer.concat([module.subarray(0, start), Uint8Array.from(section), module.subarray(end)]);
}

function memorySection(module) {
  for (let start = 8; start < module.length;) {
    const size = number(module, start + 1);
    const end = size.end + size.value;
    if (module[start] === MEMORY_SECTION) {
      const [count, flags] = module.subarray(size.end);
      if (count !== 1 || flags !== 0) throw new Error(`${count} memories with flags ${flags}, expected one without a maximum`);
      return { start, initial: module.subarray(size.end + 2, end), pages: number(module, size.end + 2).value, end };
    }
    start = end;
  }
  throw new Error('no memory section');
}

/** LEB128. */
function number(module, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = module[at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return { value, end: at };
  }
}

function bytes(value) {
  const low = value & 127;
  return value < 128 ? [low] : [low | 128, ...bytes(value >> 7)];
}
