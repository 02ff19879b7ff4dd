export { process as default } from 'gilliam:process';
import { process } from 'gilliam:process';
export const { argv, cwd, env, exit, nextTick, platform, stdout, stderr, hrtime } = process;
