/** The platform or a service refused. */
export class GilliamError extends Error {
  readonly status: number;
  /** Such as `Q13`; empty when the answer has none. */
  readonly code: string;
  readonly hint?: string;
}

/** One message of a queue, delivered at least once. */
export class Job {
  constructor(job: { id: string; queue: string; attempt: number; payload: Uint8Array });
  /** The same at every attempt. */
  readonly id: string;
  readonly queue: string;
  /** 1 at the first attempt. */
  readonly attempt: number;
  readonly payload: Uint8Array;
  text(): string;
  /** A job whose payload is no JSON is discarded. */
  json<T = any>(): T;
}

/** Thrown by a handler: the job goes among the dead letters. */
export class Discard extends Error {
  constructor(reason: string);
}

/** Thrown by a handler: the job is tried again, not before so many milliseconds. */
export class RetryAfter extends Error {
  constructor(ms: number);
  readonly ms: number;
}

export interface PutOptions {
  /** While a job of this key waits or runs, another is not put. */
  key?: string;
  delayMs?: number;
  /** -128 to 127; a higher one goes first. */
  priority?: number;
  /** 1 to 25. */
  attempts?: number;
}

export interface Queued {
  id: string;
  /** False when there was one of its key already. */
  new: boolean;
}

/** A job that this program has until its lease ends, 60 s after it was taken unless it is extended. */
export interface Taken {
  readonly job: Job;
  done(): Promise<void>;
  retry(reason: unknown, ms?: number): Promise<void>;
  discard(reason: unknown): Promise<void>;
  extend(ms: number): Promise<void>;
  run(handler: (job: Job) => unknown): Promise<void>;
}

export interface Queue {
  put(payload: unknown, options?: PutOptions): Promise<Queued>;
  putAll(payloads: Iterable<unknown>, options?: Omit<PutOptions, 'key'>): Promise<Queued[]>;
  receive(): AsyncGenerator<Taken, void, void>;
}

export interface KeyValue {
  get<T = any>(key: string): Promise<T | undefined>;
  getBytes(key: string): Promise<Uint8Array | undefined>;
  entry<T = any>(key: string): Promise<{ value: T; version: string } | undefined>;
  /** False only when `ifStill` or `ifAbsent` does not hold. */
  set(key: string, value: unknown, options?: { ttlMs?: number; ifStill?: string; ifAbsent?: boolean }): Promise<boolean>;
  delete(key: string): Promise<void>;
  increment(key: string, by?: number): Promise<number>;
  keys(prefix?: string): AsyncGenerator<string, void, void>;
}

export interface Ran {
  columns: string[];
  rows: unknown[][];
  changes: number;
  last_insert_id: number | null;
}

export interface Sql {
  query<T = Record<string, any>>(sql: string, ...params: unknown[]): Promise<T[]>;
  run(sql: string, ...params: unknown[]): Promise<Ran>;
  batch(statements: [sql: string, ...params: unknown[]][]): Promise<Ran[]>;
}

export interface Blobs {
  put(name: string, content: Uint8Array | string | ReadableStream<Uint8Array>): Promise<void>;
  get(name: string, range?: { start?: number; end?: number }): Promise<Uint8Array | undefined>;
  open(name: string): Promise<ReadableStream<Uint8Array> | undefined>;
  size(name: string): Promise<number | undefined>;
  delete(name: string): Promise<void>;
  list(prefix?: string): AsyncGenerator<{ name: string; bytes: number }, void, void>;
}

export function queue(name: string): Queue;
export function keyvalue(name: string): KeyValue;
export function sql(name: string): Sql;
export function blobs(name: string): Blobs;
export function app(name: string): { fetch(path: string, init?: RequestInit): Promise<Response> };
export function config(key: string): string | undefined;
export function config(key: string, otherwise: string): string;
export const log: Record<'debug' | 'info' | 'warn' | 'error', (...words: unknown[]) => void>;
