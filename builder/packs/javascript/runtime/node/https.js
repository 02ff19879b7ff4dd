// node:https: the ingress speaks TLS for a server, and fetch for a client.
import { Agent, Server, createServer, globalAgent, requester } from 'node:http';
export const request = requester('https:');
export function get(...words) {
  const made = request(...words);
  made.end();
  return made;
}
export { Agent, Server, createServer, globalAgent };
export default { Agent, Server, createServer, get, globalAgent, request };
