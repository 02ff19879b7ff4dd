// The app's config, and lines with levels for `gilliam logs`.

const environment = () => globalThis.process?.env ?? {};

/** A value of the app's config (`gilliam config set KEY=VALUE`), or what stands for it. */
export const config = (key, otherwise) => environment()[key] ?? otherwise;

const LEVELS = ['debug', 'info', 'warn', 'error', 'off'];

function line(level, words) {
  const least = LEVELS.indexOf(String(config('LOG_LEVEL', 'info')).toLowerCase());
  if (LEVELS.indexOf(level) < (least < 0 ? 1 : least)) return;
  const show = (word) =>
    typeof word === 'string' ? word : word instanceof Error ? `${word.message}` : JSON.stringify(word);
  const text = words.map(show).join(' ');
  const lines = text.split('\n').map((line) => `${level.toUpperCase()} ${line}`);
  const write = level === 'warn' || level === 'error' ? console.error : console.log;
  write(lines.join('\n'));
}

/** Writes lines that begin with their level. The config LOG_LEVEL says from which level on; info unless it is said. */
export const log = {
  debug: (...words) => line('debug', words),
  info: (...words) => line('info', words),
  warn: (...words) => line('warn', words),
  error: (...words) => line('error', words),
};
