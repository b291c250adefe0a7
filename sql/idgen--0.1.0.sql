-- complain if script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION idgen" to load this file. \quit

-- Giving out ids.

CREATE FUNCTION idgen_next() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_next_wrapper';
COMMENT ON FUNCTION idgen_next() IS
'the next id of this server: unique over all servers with different machine ids, greater than every id it gave before, durable before it is visible';

CREATE FUNCTION idgen_next_many(n integer) RETURNS SETOF bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE ROWS 1000
AS 'MODULE_PATHNAME', 'idgen_next_many_wrapper';
COMMENT ON FUNCTION idgen_next_many(integer) IS
'n ids of this server, increasing, each as if from idgen_next()';

-- Reading ids. These need no preload, and none of them depends on a setting, so that they may stand in indexes and
-- prune partitions.

CREATE FUNCTION idgen_timestamp(id bigint) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_timestamp_wrapper';
COMMENT ON FUNCTION idgen_timestamp(bigint) IS
'when the id was given out, to the millisecond';

CREATE FUNCTION idgen_machine(id bigint) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_machine_wrapper';
COMMENT ON FUNCTION idgen_machine(bigint) IS
'the machine id of the server that gave the id out';

CREATE FUNCTION idgen_sequence(id bigint) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_sequence_wrapper';
COMMENT ON FUNCTION idgen_sequence(bigint) IS
'the number of the id within its millisecond';

CREATE FUNCTION idgen_decode(id bigint, OUT "at" timestamptz, OUT machine integer, OUT sequence bigint)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT idgen_timestamp(id), idgen_machine(id), idgen_sequence(id);
END;
COMMENT ON FUNCTION idgen_decode(bigint) IS
'all that an id says: when, on which machine, and its number within the millisecond';

CREATE FUNCTION idgen_min_id("at" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_min_id_wrapper';
COMMENT ON FUNCTION idgen_min_id(timestamptz) IS
'the smallest id of that millisecond on any machine: id >= idgen_min_id(t) is everything since t';

CREATE FUNCTION idgen_max_id("at" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_max_id_wrapper';
COMMENT ON FUNCTION idgen_max_id(timestamptz) IS
'the largest id of that millisecond on any machine: id <= idgen_max_id(t) is everything up to t';

-- Repair.

CREATE FUNCTION idgen_accept_clock() RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_accept_clock_wrapper';
COMMENT ON FUNCTION idgen_accept_clock() IS
'declares the wall clock right: ids follow it from now on, however far it leapt ahead';

CREATE FUNCTION idgen_raise_horizon("at" timestamptz) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_raise_horizon_wrapper';
COMMENT ON FUNCTION idgen_raise_horizon(timestamptz) IS
'sees to it that every id from now on is of that time or later: after pg_upgrade or pg_resetwal, where the clock was ahead';

-- Both spend timestamps that cannot be had back.
REVOKE ALL ON FUNCTION idgen_accept_clock(), idgen_raise_horizon(timestamptz) FROM PUBLIC;

-- Watching.

CREATE FUNCTION idgen_status(
    OUT machine_id integer, OUT last_id bigint, OUT last_timestamp timestamptz,
    OUT effective_clock timestamptz, OUT clock_ahead interval, OUT clock_held interval,
    OUT horizon timestamptz, OUT horizon_moves bigint, OUT horizon_waits bigint,
    OUT loan_sleeps bigint, OUT clock_steps bigint, OUT worker_pid integer) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'idgen_status_wrapper';
COMMENT ON FUNCTION idgen_status() IS
'what the view idgen_status shows';

CREATE VIEW idgen_status AS SELECT * FROM idgen_status();
COMMENT ON VIEW idgen_status IS
'the state of idgen on this server, one row';
COMMENT ON COLUMN idgen_status.machine_id IS 'the setting idgen.machine_id, null if unset';
COMMENT ON COLUMN idgen_status.last_id IS 'the last id that was given out or skipped, null if none may be given';
COMMENT ON COLUMN idgen_status.last_timestamp IS 'the time in last_id';
COMMENT ON COLUMN idgen_status.effective_clock IS 'the clock that ids are made of';
COMMENT ON COLUMN idgen_status.clock_ahead IS 'how far it is ahead of the wall clock; a wall clock that was set back is approached by a tenth of the time that passes';
COMMENT ON COLUMN idgen_status.clock_held IS 'how far the wall clock leapt ahead without being followed; idgen_accept_clock() follows it';
COMMENT ON COLUMN idgen_status.horizon IS 'the durable promise: no id of a later time was ever given out';
COMMENT ON COLUMN idgen_status.horizon_moves IS 'how often it was moved since the start, each time a small record of WAL and a flush';
COMMENT ON COLUMN idgen_status.horizon_waits IS 'calls that had to wait for it; the first after an idle time does';
COMMENT ON COLUMN idgen_status.loan_sleeps IS 'calls that slept because a burst had run idgen.max_borrow ahead of the clock';
COMMENT ON COLUMN idgen_status.clock_steps IS 'steps of the wall clock that were seen';
COMMENT ON COLUMN idgen_status.worker_pid IS 'the process that moves the horizon; it is not in pg_stat_activity';

-- The last id tells how busy the server is, which is for those who watch it.
REVOKE ALL ON FUNCTION idgen_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idgen_status() TO pg_monitor;
GRANT SELECT ON idgen_status TO pg_monitor;
