// What apps on gilliam are written with. Nothing here runs, or reads config, before it is called.

export { blobs } from './blobs.js';
export { GilliamError, app } from './call.js';
export { config, log } from './config.js';
export { Discard, Job, RetryAfter } from './job.js';
export { keyvalue } from './keyvalue.js';
export { queue } from './queue.js';
export { sql } from './sql.js';
