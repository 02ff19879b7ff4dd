// Greets a guest every second, until it is stopped.
import { type Guest, greet } from './guests';

const guests: Guest[] = [{ name: 'Ada' }, { name: 'Grace' }];
for (let turn = 0; ; turn++) {
  console.log(greet(guests[turn % guests.length], process.env.GREETING).trim());
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
