// Requests inside the platform, and what it says when it refuses.

/** The platform or a service refused; `status`, `code` (`Q13`, `N04`) and `hint` say why and what to do. */
export class GilliamError extends Error {
  constructor(status, { code = '', message = '', hint } = {}) {
    super(`${code || status}: ${message}${hint ? ` (${hint})` : ''}`);
    this.name = 'GilliamError';
    Object.assign(this, { status, code, hint });
  }
}

/** The answer to a request, or a GilliamError for a status of failure that is not among `allowed`. */
export async function call(url, init, ...allowed) {
  const answer = await fetch(url, init);
  if (answer.status < 400 || allowed.includes(answer.status)) return answer;
  const text = await answer.text();
  let said = { message: text.trim() };
  try {
    const { code, message, hint } = JSON.parse(text);
    said = { code, message: message ?? text, hint };
  } catch {
    // It was not the platform who refused: the text says what it says.
  }
  throw new GilliamError(answer.status, said);
}

export const post = (url, body) => call(url, { method: 'POST', body });

export const postJson = (url, value) =>
  call(url, { method: 'POST', body: JSON.stringify(value), headers: { 'content-type': 'application/json' } });

/** `?a=b` of what is there. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null);
  const pairs = given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return pairs.length ? `?${pairs.join('&')}` : '';
}

/** What is sent of a value: bytes as they are, all else as JSON. */
export function encode(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`);
  return new TextEncoder().encode(text);
}

/** All of what a service lists page by page. */
export async function* pages(origin, prefix, key) {
  let after;
  do {
    const page = await (await call(`${origin}/${query({ prefix, after })}`)).json();
    yield* page[key];
    after = page.next;
  } while (after);
}

/** Another app of the cluster, by its name in `[uses]` of gilliam.toml: `app('billing').fetch('/invoices/7')`. */
export const app = (name) => ({
  fetch: (path, init) => fetch(`http://${name}.internal${path.startsWith('/') ? path : `/${path}`}`, init),
});
