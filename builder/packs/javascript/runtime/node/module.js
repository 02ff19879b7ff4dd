// node:module: all modules were found when the program was built.
export function createRequire() {
  return (name) => {
    throw new Error(
      `cannot find module ${name}: what a program needs is found when it is built; import it by its name`,
    );
  };
}
export const builtinModules = [];
export default { builtinModules, createRequire };
