// SQL services.

import { postJson } from './call.js';

const objects = ({ columns = [], rows = [] }) =>
  rows.map((row) => Object.fromEntries(columns.map((column, at) => [column, row[at]])));

/** An SQL service of the app, by its name in `[services]` of gilliam.toml. */
export function sql(name) {
  const origin = `http://${name}.internal`;
  const run = async (statement, ...params) =>
    (await postJson(`${origin}/query`, { sql: statement, params })).json();
  return {
    /** The rows of a statement as objects: `await db.query('select name from guests where id = ?', 7)`. */
    query: async (statement, ...params) => objects(await run(statement, ...params)),

    /** Runs a statement; answers `{ columns, rows, changes, last_insert_id }`. */
    run,

    /** Runs `[statement, ...params]`, several of them, in one transaction: all of them happen or none. */
    async batch(statements) {
      const asked = statements.map(([sql, ...params]) => ({ sql, params }));
      return (await postJson(`${origin}/batch`, asked)).json();
    },
  };
}
