/** Thrown by `process.exit`: what is in progress ends here. */
export class Ended extends Error {
  constructor(code) {
    super(`process.exit(${code ?? ''})`);
    this.name = 'Ended';
    this.code = Number(code ?? 0);
  }
}
