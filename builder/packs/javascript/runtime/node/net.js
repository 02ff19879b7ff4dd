// node:net without sockets: what other modules ask it about addresses.
const V4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;
export const isIPv4 = (text) => V4.test(text);
export const isIPv6 = (text) => {
  const address = String(text).split('%')[0];
  return address.includes(':') && URL.canParse(`http://[${address}]`);
};
export const isIP = (text) => (isIPv4(text) ? 4 : isIPv6(text) ? 6 : 0);
const refuse = () => {
  throw new Error('node:net has no sockets here: use fetch');
};
export class Socket {
  constructor() {
    refuse();
  }
}
export const Stream = Socket;
export class Server {
  constructor() {
    refuse();
  }
}
export { refuse as connect, refuse as createConnection, refuse as createServer };
export default {
  Server,
  Socket,
  Stream,
  connect: refuse,
  createConnection: refuse,
  createServer: refuse,
  isIP,
  isIPv4,
  isIPv6,
};
