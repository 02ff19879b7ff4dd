// Modules of Node.js that an instance cannot have, for packages that import them and can do without.

/** Answers any name with what throws when it is called. */
export function absent(module) {
  const refuse = (name) =>
    new Proxy(function refused() {}, {
      apply() {
        throw new Error(
          `${module}.${name} is not there: an instance has no processes, threads or sockets of its own`,
        );
      },
      construct() {
        throw new Error(
          `${module}.${name} is not there: an instance has no processes, threads or sockets of its own`,
        );
      },
    });
  return new Proxy(
    {},
    {
      get: (_, name) =>
        typeof name === 'symbol' || ['__esModule', 'default', 'then'].includes(name)
          ? undefined
          : refuse(name),
    },
  );
}
