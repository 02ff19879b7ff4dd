// Prints a line every second, until it is stopped.
const at = process.argv.indexOf('--interval');
const seconds = Number(process.argv[at + 1] ?? 1);
let ticks = 0;

console.log(`worker of ${process.env.GILLIAM_APP} begins, every ${seconds} s`);
setInterval(() => {
  ticks += 1;
  console.log(`tick ${ticks}`);
}, seconds * 1000);
