// node:fs/promises of an instance that has no files.
import { promises } from 'node:fs';
export const {
  access,
  appendFile,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} = promises;
export default promises;
