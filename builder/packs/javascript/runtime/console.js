// What Node.js's console has beyond the engine's: texts with places for values.

const show = (value) =>
  typeof value === 'string'
    ? value
    : value instanceof Error
      ? value.stack
      : (JSON.stringify(value) ?? String(value));

function fill(place, value) {
  switch (place) {
    case '%s':
      return typeof value === 'object' && value !== null ? show(value) : String(value);
    case '%d':
      return typeof value === 'bigint' ? `${value}n` : String(Number(value));
    case '%i':
      return String(parseInt(value, 10));
    case '%f':
      return String(parseFloat(value));
    case '%c':
      return '';
    default:
      return show(value);
  }
}

/** The words of a call with the places of the first filled. */
export function format([text, ...values]) {
  if (typeof text !== 'string' || !text.includes('%') || !values.length) return [text, ...values];
  const filled = text.replace(/%[sdifjoOc%]/g, (place) => {
    if (place === '%%') return '%';
    return values.length ? fill(place, values.shift()) : place;
  });
  return [filled, ...values];
}

for (const name of ['debug', 'log', 'info', 'warn', 'error', 'trace']) {
  const own = console[name];
  console[name] = (...words) => own.apply(console, format(words));
}
