// node:http over the engine's fetch: a server is what answers this process's requests, a client is a call of fetch.

import { Buffer } from 'node:buffer';
import { EventEmitter } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { process, server as answering } from 'gilliam:process';

export const METHODS = [
  'ACL',
  'BIND',
  'CHECKOUT',
  'CONNECT',
  'COPY',
  'DELETE',
  'GET',
  'HEAD',
  'LINK',
  'LOCK',
  'M-SEARCH',
  'MERGE',
  'MKACTIVITY',
  'MKCALENDAR',
  'MKCOL',
  'MOVE',
  'NOTIFY',
  'OPTIONS',
  'PATCH',
  'POST',
  'PROPFIND',
  'PROPPATCH',
  'PURGE',
  'PUT',
  'QUERY',
  'REBIND',
  'REPORT',
  'SEARCH',
  'SOURCE',
  'SUBSCRIBE',
  'TRACE',
  'UNBIND',
  'UNLINK',
  'UNLOCK',
  'UNSUBSCRIBE',
];
export const STATUS_CODES = {
  100: 'Continue',
  101: 'Switching Protocols',
  102: 'Processing',
  103: 'Early Hints',
  200: 'OK',
  201: 'Created',
  202: 'Accepted',
  203: 'Non-Authoritative Information',
  204: 'No Content',
  205: 'Reset Content',
  206: 'Partial Content',
  207: 'Multi-Status',
  300: 'Multiple Choices',
  301: 'Moved Permanently',
  302: 'Found',
  303: 'See Other',
  304: 'Not Modified',
  307: 'Temporary Redirect',
  308: 'Permanent Redirect',
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  406: 'Not Acceptable',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  411: 'Length Required',
  412: 'Precondition Failed',
  413: 'Payload Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  416: 'Range Not Satisfiable',
  417: 'Expectation Failed',
  418: "I'm a Teapot",
  421: 'Misdirected Request',
  422: 'Unprocessable Entity',
  423: 'Locked',
  424: 'Failed Dependency',
  425: 'Too Early',
  426: 'Upgrade Required',
  428: 'Precondition Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  451: 'Unavailable For Legal Reasons',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
  507: 'Insufficient Storage',
  508: 'Loop Detected',
  511: 'Network Authentication Required',
};
/** Statuses without a body, which the engine refuses to give one. */
const BODILESS = new Set([101, 204, 205, 304]);
/** The engine's own business. */
const OF_CONNECTION = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'host',
]);

/** What programs ask of a connection. */
function socket(headers) {
  const remote = headers['x-forwarded-for']?.split(',')[0].trim() ?? '127.0.0.1';
  return Object.assign(new EventEmitter(), {
    remoteAddress: remote,
    remoteFamily: remote.includes(':') ? 'IPv6' : 'IPv4',
    encrypted: headers['x-forwarded-proto'] === 'https',
    readable: true,
    writable: true,
    destroyed: false,
    setTimeout() {},
    setNoDelay() {},
    setKeepAlive() {},
    address: () => ({ address: '127.0.0.1', family: 'IPv4', port: Number(process.env.PORT ?? 0) }),
    destroy() {},
    end() {},
    cork() {},
    uncork() {},
  });
}

/** A request or an answer as it comes in. */
export class IncomingMessage extends Readable {
  constructor(message) {
    super();
    this.headers = {};
    this.rawHeaders = [];
    this.httpVersion = '1.1';
    this.httpVersionMajor = 1;
    this.httpVersionMinor = 1;
    this.trailers = {};
    this.complete = false;
    this.aborted = false;
    for (const [name, value] of message?.headers ?? []) {
      this.rawHeaders.push(name, value);
      if (name === 'set-cookie') (this.headers[name] ??= []).push(value);
      else this.headers[name] = name in this.headers ? `${this.headers[name]}, ${value}` : value;
    }
    this.socket = socket(this.headers);
    this.connection = this.socket;
    this.reader = message?.body?.getReader();
  }
  get headersDistinct() {
    return Object.fromEntries(Object.entries(this.headers).map(([name, value]) => [name, [value].flat()]));
  }
  async _read() {
    try {
      const { done, value } = (await this.reader?.read()) ?? { done: true };
      this.complete ||= done;
      this.push(done ? null : Buffer.from(value));
    } catch (error) {
      this.destroy(error);
    }
  }
  setTimeout() {
    return this;
  }
}

/** Headers of what goes out. */
class Outgoing extends Writable {
  constructor(options) {
    super(options);
    this.fields = new Map();
    this.headersSent = false;
    this.finished = false;
    this.sendDate = true;
  }
  setHeader(name, value) {
    if (this.headersSent)
      throw Object.assign(new Error('Cannot set headers after they are sent to the client'), {
        code: 'ERR_HTTP_HEADERS_SENT',
      });
    this.fields.set(String(name).toLowerCase(), [String(name), value]);
    return this;
  }
  setHeaders(headers) {
    for (const [name, value] of headers) this.setHeader(name, value);
    return this;
  }
  appendHeader(name, value) {
    const before = this.getHeader(name);
    return this.setHeader(name, before === undefined ? value : [before, value].flat());
  }
  getHeader(name) {
    return this.fields.get(String(name).toLowerCase())?.[1];
  }
  getHeaders() {
    return Object.fromEntries([...this.fields].map(([name, [, value]]) => [name, value]));
  }
  getHeaderNames() {
    return [...this.fields.keys()];
  }
  hasHeader(name) {
    return this.fields.has(String(name).toLowerCase());
  }
  removeHeader(name) {
    this.fields.delete(String(name).toLowerCase());
  }
  pairs() {
    const all = [...this.fields.values()].flatMap(([name, value]) =>
      [value].flat().map((one) => [name, String(one)]),
    );
    return all.filter(([name]) => !OF_CONNECTION.has(name.toLowerCase()));
  }
  setTimeout() {
    return this;
  }
  flushHeaders() {}
  addTrailers() {}
  cork() {}
  uncork() {}
}

/** The answer of a server: a Response, from the first byte or the end of it. */
export class ServerResponse extends Outgoing {
  constructor(request) {
    super({ highWaterMark: 65_536 });
    this.req = request;
    this.socket = request.socket;
    this.connection = request.socket;
    this.statusCode = 200;
    this.statusMessage = undefined;
    this.response = Promise.withResolvers();
    this.on('finish', () => {
      this.finished = true;
    });
  }
  writeHead(status, reason, headers = typeof reason === 'object' ? reason : undefined) {
    this.statusCode = status;
    if (typeof reason === 'string') this.statusMessage = reason;
    const pairs = Array.isArray(headers)
      ? headers.flatMap((name, at) => (at % 2 ? [] : [[name, headers[at + 1]]]))
      : Object.entries(headers ?? {});
    for (const [name, value] of pairs) if (value !== undefined) this.setHeader(name, value);
    return this;
  }
  writeContinue() {}
  writeProcessing() {}
  writeEarlyHints() {}
  assignSocket() {}
  detachSocket() {}
  flushHeaders() {
    this.begin();
  }

  begin(whole) {
    if (this.headersSent) return;
    this.headersSent = true;
    const init = { status: this.statusCode, headers: this.pairs() };
    const isBodiless = BODILESS.has(this.statusCode) || this.req.method === 'HEAD';
    if (isBodiless || whole) {
      this.response.resolve(new Response(isBodiless || !whole.length ? null : whole, init));
      return;
    }
    const body = new TransformStream();
    this.body = body.writable.getWriter();
    this.response.resolve(new Response(body.readable, init));
  }

  /** Small answers, which are written by their end alone, become no streams. */
  end(chunk, encoding, done) {
    if (typeof chunk === 'function') return this.end(undefined, undefined, chunk);
    if (typeof encoding === 'function') return this.end(chunk, undefined, encoding);
    if (!this.headersSent && !this.writableLength) {
      this.begin(chunk === undefined || chunk === null ? new Uint8Array() : Buffer.from(chunk, encoding));
      return super.end(done);
    }
    return super.end(chunk, encoding, done);
  }
  _write(chunk, _encoding, done) {
    this.begin();
    if (!this.body) return done();
    // The engine pulls slower than a program writes: its pace is the stream's.
    return void this.body.write(new Uint8Array(chunk)).then(() => done(), done);
  }
  _final(done) {
    this.begin(new Uint8Array());
    if (!this.body) return done();
    return void this.body.close().then(() => done(), done);
  }
  _destroy(error, done) {
    if (!this.headersSent) this.response.reject(error ?? new Error('the answer was destroyed'));
    else if (error) this.body?.abort(error).catch(() => {});
    done(error);
  }
}

/** Answers the requests of this process once it listens. */
export class Server extends EventEmitter {
  constructor(options, listener) {
    super();
    this.listening = false;
    const given = typeof options === 'function' ? options : listener;
    if (given) this.on('request', given);
  }
  listen(...words) {
    this.listening = true;
    answering.resolve((request) => this.answer(request));
    const done = words.findLast((word) => typeof word === 'function');
    queueMicrotask(() => {
      this.emit('listening');
      done?.call(this);
    });
    return this;
  }
  answer(request) {
    const incoming = new IncomingMessage(request);
    const { pathname, search, host } = new URL(request.url);
    incoming.method = request.method;
    incoming.url = pathname + search;
    incoming.headers.host ??= host;
    const outgoing = new ServerResponse(incoming);
    this.emit('request', incoming, outgoing);
    return outgoing.response.promise;
  }
  address() {
    return { address: '0.0.0.0', family: 'IPv4', port: Number(process.env.PORT ?? 0) };
  }
  close(done) {
    this.listening = false;
    queueMicrotask(() => {
      this.emit('close');
      done?.();
    });
    return this;
  }
  setTimeout() {
    return this;
  }
  closeAllConnections() {}
  closeIdleConnections() {}
  ref() {
    return this;
  }
  unref() {
    return this;
  }
}

export const createServer = (options, listener) => new Server(options, listener);

/** A request that goes out when it is ended. */
export class ClientRequest extends Outgoing {
  constructor(target, options, done) {
    super();
    this.target = target;
    this.method = (options.method ?? 'GET').toUpperCase();
    this.path = target.pathname + target.search;
    this.host = target.host;
    this.chunks = [];
    this.abortion = new AbortController();
    options.signal?.addEventListener('abort', () => this.destroy(options.signal.reason));
    const headers = Array.isArray(options.headers) ? options.headers : Object.entries(options.headers ?? {});
    for (const [name, value] of headers) if (value !== undefined) this.setHeader(name, value);
    if (options.auth) this.setHeader('Authorization', `Basic ${btoa(options.auth)}`);
    if (done) this.once('response', done);
  }
  _write(chunk, _encoding, done) {
    this.chunks.push(chunk);
    done();
  }
  _final(done) {
    this.headersSent = true;
    const body =
      ['GET', 'HEAD'].includes(this.method) || !this.chunks.length ? undefined : Buffer.concat(this.chunks);
    const init = {
      method: this.method,
      headers: this.pairs(),
      body,
      redirect: 'manual',
      signal: this.abortion.signal,
    };
    fetch(this.target.href, init).then(
      (response) => {
        const message = new IncomingMessage(response);
        message.statusCode = response.status;
        message.statusMessage = response.statusText || STATUS_CODES[response.status];
        this.emit('response', message);
      },
      (error) => this.destroyed || this.destroy(Object.assign(error, { code: 'ECONNREFUSED' })),
    );
    done();
  }
  _destroy(error, done) {
    this.abortion.abort();
    done(error);
  }
  abort() {
    this.destroy();
  }
  setNoDelay() {}
  setSocketKeepAlive() {}
}

/** `request(url, options, done)` and its other forms, for this scheme. */
export function requester(scheme) {
  return (...words) => {
    const done = words.findLast((word) => typeof word === 'function');
    const url = typeof words[0] === 'string' || words[0] instanceof URL ? new URL(words[0]) : undefined;
    const options = words.find((word) => word && typeof word === 'object' && !(word instanceof URL)) ?? {};
    const host = options.hostname ?? options.host ?? 'localhost';
    const port = options.port ? `:${options.port}` : '';
    const target =
      url ??
      new URL(`${options.protocol ?? scheme}//${host.replace(/:\d+$/, '')}${port}${options.path ?? '/'}`);
    return new ClientRequest(target, options, done);
  };
}

export const request = requester('http:');
export function get(...words) {
  const made = request(...words);
  made.end();
  return made;
}

export class Agent extends EventEmitter {
  constructor(options = {}) {
    super();
    this.options = options;
  }
  destroy() {}
}
export const globalAgent = new Agent();
export const maxHeaderSize = 16_384;
export const validateHeaderName = () => {};
export const validateHeaderValue = () => {};
export { Outgoing as OutgoingMessage };
export default {
  Agent,
  ClientRequest,
  IncomingMessage,
  METHODS,
  OutgoingMessage: Outgoing,
  STATUS_CODES,
  Server,
  ServerResponse,
  createServer,
  get,
  globalAgent,
  maxHeaderSize,
  request,
  validateHeaderName,
  validateHeaderValue,
};
