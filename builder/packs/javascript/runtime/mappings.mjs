// The lines of a source map, read and written.

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** For each line of the bundle the segments [column, source, line, column] of the map. */
export function decode(mappings) {
  let [source, line, column] = [0, 0, 0];
  return mappings.split(';').map((text) => {
    let generated = 0;
    return text
      .split(',')
      .filter(Boolean)
      .map((segment) => {
        const fields = [];
        let [value, shift] = [0, 0];
        for (const character of segment) {
          const digit = DIGITS.indexOf(character);
          value |= (digit & 31) << shift;
          shift += 5;
          if (digit & 32) continue;
          fields.push(value & 1 ? -(value >>> 1) : value >>> 1);
          [value, shift] = [0, 0];
        }
        generated += fields[0];
        source += fields[1] ?? 0;
        line += fields[2] ?? 0;
        column += fields[3] ?? 0;
        return [generated, source, line, column];
      });
  });
}

function number(value) {
  let text = '';
  for (let left = value < 0 ? (-value << 1) | 1 : value << 1; ; ) {
    const digit = left & 31;
    left >>>= 5;
    text += DIGITS[left ? digit | 32 : digit];
    if (!left) return text;
  }
}

/** The opposite of `decode`. */
export function encode(lines) {
  let before = [0, 0, 0, 0];
  return lines
    .map((segments) => {
      before[0] = 0;
      return segments
        .map((segment) => {
          const text = segment.map((value, at) => number(value - before[at])).join('');
          before = [...segment];
          return text;
        })
        .join(',');
    })
    .join(';');
}
