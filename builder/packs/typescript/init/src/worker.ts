// Runs beside web, until it is stopped.
import { greet } from './greeting';

for (let tick = 1; ; tick++) {
  console.log(`tick ${tick}: ${greet(process.env.GREETING)}`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
