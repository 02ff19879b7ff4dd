-- What the queues are kept in: made by the first server that reaches the database, layout 1.
--
-- A job is one row of `jobs` from the moment it is put until it is done. Its columns are changed three times at most on
-- the usual way (put, taken, gone), and each of the indexes that this is found by holds only the states that it is for.
-- How much is in a queue is never counted: each transaction notes in `tallies` by how much it changed it, which is
-- appending and so waits for nobody, and what was noted is summed up now and then.

CREATE TABLE layout (number int NOT NULL, cluster text);

CREATE SEQUENCE job_ids;

CREATE TABLE queues (
  number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  app text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  paused boolean NOT NULL DEFAULT false,
  -- What a rate remembers: microseconds since 1970.
  paced_us bigint NOT NULL DEFAULT 0,
  UNIQUE (app, name)
);

-- state: 0 ready, 1 scheduled, 2 running, 3 dead. rank: 0 for the highest priority. Times: milliseconds since 1970.
CREATE TABLE jobs (
  id bigint PRIMARY KEY,
  created bigint NOT NULL,
  at bigint NOT NULL,
  queue int NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  attempts_max int NOT NULL,
  lease int NOT NULL DEFAULT 0,
  bytes int NOT NULL,
  state smallint NOT NULL,
  rank smallint NOT NULL,
  -- What users say is bytes: a database need not have UTF-8.
  key bytea,
  holder text COLLATE "C",
  error bytea,
  payload bytea NOT NULL
) WITH (
  autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_cost_delay = 0,
  toast.autovacuum_vacuum_scale_factor = 0.05,
  toast.autovacuum_vacuum_cost_delay = 0,
  -- The table is full again soon: giving its end back takes a lock that stops everybody.
  vacuum_truncate = false,
  toast.vacuum_truncate = false
);
ALTER TABLE jobs ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE INDEX jobs_ready ON jobs (queue, rank, id) WHERE state = 0;
CREATE INDEX jobs_timed ON jobs (state, at, id) WHERE state <> 0;
CREATE INDEX jobs_kept ON jobs (queue, state, at, id) WHERE state IN (1, 3);
CREATE UNIQUE INDEX jobs_key ON jobs (queue, key) WHERE key IS NOT NULL AND state <> 3;

CREATE TABLE tallies (
  queue int NOT NULL,
  ready bigint NOT NULL,
  scheduled bigint NOT NULL,
  running bigint NOT NULL,
  dead bigint NOT NULL,
  bytes bigint NOT NULL,
  done bigint NOT NULL,
  failed bigint NOT NULL
) WITH (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = false
);
