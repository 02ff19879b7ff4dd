// Runs beside web, until it is stopped.
let ticks = 0;

console.log('the worker begins');
setInterval(() => {
  ticks += 1;
  console.log(`tick ${ticks}`);
}, 1000);
