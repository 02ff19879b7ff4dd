// Regular expressions for an engine that knows no Unicode properties: `\p{L}` becomes the characters it stands for.

import { tool } from './project.mjs';

/** What esbuild makes of such a literal, and what a program may have written so itself. */
const MADE = /\bnew RegExp\(("(?:[^"\\\n]|\\.)*"|`(?:[^`\\$]|\\.)*`), "([a-z]*[uv][a-z]*)"\)/g;

/** The text of a program with all literal patterns spelled out. */
export function spellOut(text) {
  return text.replace(MADE, (whole, literal, flags) => {
    const pattern = literal.startsWith('"')
      ? JSON.parse(literal)
      : literal.slice(1, -1).replace(/\\([\\`$])/g, '$1');
    if (!/\\p\{/i.test(pattern)) return whole;
    try {
      const plain = tool('regexpu-core')(pattern, flags, {
        unicodePropertyEscapes: 'transform',
        unicodeSetsFlag: flags.includes('v') ? 'transform' : false,
      });
      return `new RegExp(${JSON.stringify(plain)}, "${flags.replace('v', 'u')}")`;
    } catch {
      // The engine says what is wrong with it, where it is used.
      return whole;
    }
  });
}
