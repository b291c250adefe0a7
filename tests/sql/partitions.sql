-- idgen_create_partitions(): partitions by the time in the id, and that they are pruned.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
RESET client_min_messages;
CREATE SCHEMA partitions;
SET search_path = partitions, public;

CREATE TABLE event (id bigint PRIMARY KEY DEFAULT idgen_next(), note text NOT NULL DEFAULT 'x') PARTITION BY RANGE (id);
CREATE INDEX ON event (note);
SELECT idgen_create_partitions('event', '2026-01-01 00:00+00', '2026-03-01 00:00+00', '1 month');
-- Those that are there are left as they are.
SELECT idgen_create_partitions('event', '2026-01-01 00:00+00', '2026-05-01 00:00+00', '1 month');
SELECT relid, pg_get_expr(relpartbound, relid) FROM pg_partition_tree('event'), pg_class WHERE oid = relid AND isleaf ORDER BY 1;
SELECT count(*) FROM pg_indexes WHERE tablename = 'event_p20260401';

-- Each row is where its time says.
INSERT INTO event SELECT idgen_min_id(at), at
FROM (VALUES ('2026-01-01 00:00+00'::timestamptz), ('2026-01-31 23:59:59.999+00'), ('2026-02-01 00:00+00'),
    ('2026-04-30 23:59:59.999+00')) t(at);
SELECT tableoid::regclass, idgen_timestamp(id) AT TIME ZONE 'UTC' AS at FROM event ORDER BY id;
INSERT INTO event VALUES (idgen_max_id('2026-05-01 00:00+00'));

-- Pruned when planned, and when executed.
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
EXPLAIN (COSTS off) SELECT * FROM event
WHERE id >= idgen_min_id('2026-03-05 00:00+00') AND id < idgen_min_id('2026-03-06 00:00+00');
PREPARE since(timestamptz) AS SELECT count(*) FROM event WHERE id >= idgen_min_id($1);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS off) EXECUTE since('2026-04-01 00:00+00');
SET timezone = 'UTC';
EXPLAIN (COSTS off) SELECT count(*) FROM event WHERE id >= idgen_min_id(timestamptz '2026-04-02 00:00+00' - '1 day'::interval);

-- Short ones, of a generator, in a table whose name needs quotes; names are UTC's.
SET timezone = 'Asia/Kolkata';
SELECT idgen_create_generator('sony', preset => 'sonyflake', schema => 'partitions');
CREATE TABLE "Click" (id bigint DEFAULT idgen_next('sony')) PARTITION BY RANGE (id);
SELECT idgen_create_partitions('"Click"', '2026-03-01 00:00+00', '2026-03-01 11:00+00', '6 hours');
INSERT INTO "Click" VALUES (idgen_min_id('2026-03-01 06:00+00', 'sony')), (idgen_min_id('2026-03-01 06:00+00', 'sony') - 1);
SELECT tableoid::regclass FROM "Click" ORDER BY id;

-- A time without a zone is UTC's, whatever the session's zone; one with a zone, or of a type with one, is what it says.
CREATE TABLE dated (id bigint DEFAULT idgen_next()) PARTITION BY RANGE (id);
SELECT idgen_create_partitions('dated', '2026-01-01', '2026-01-02', '1 day');
SELECT idgen_create_partitions('dated', date '2026-01-02', date '2026-01-03', '1 day');
SELECT idgen_create_partitions('dated', timestamp '2026-01-03', timestamp '2026-01-04', '1 day');
SELECT idgen_create_partitions('dated', timestamptz '2026-01-04 05:30', timestamptz '2026-01-05 05:30', '1 day');
SELECT idgen_create_partitions('dated', '2026-01-05 05:30+05:30', '2026-01-06', '1 day');
SELECT idgen_drop_partitions('dated', '2026-01-02');
SELECT idgen_drop_partitions('dated', date '2026-01-03');
SELECT idgen_drop_partitions('dated', timestamptz '2026-01-04 05:30');

-- However the session writes dates.
SET datestyle = 'SQL, DMY';
SELECT idgen_create_partitions('dated', date '03/02/2026', date '04/02/2026', '1 day');
SELECT idgen_create_partitions('dated', timestamptz '04/02/2026 05:30', timestamptz '05/02/2026 05:30', '1 day');
SELECT idgen_drop_partitions('dated', date '04/02/2026');
RESET datestyle;

-- Refused.
SELECT idgen_create_partitions('dated', 1, 2, '1 day');
CREATE TABLE listed (id bigint) PARTITION BY LIST (id);
SELECT idgen_create_partitions('listed', '2026-01-01', '2026-02-01', '1 day');
SELECT idgen_create_partitions('event', '2026-02-01 00:00+00', '2026-01-01 00:00+00', '1 day');
SELECT idgen_create_partitions('event', '2026-01-01 00:00+00', 'infinity', '1 day');
SELECT idgen_create_partitions('event', '2026-01-01 00:00+00', '2026-02-01 00:00+00', '0');
SELECT idgen_create_partitions('event', '2026-05-01 00:00+00', '2026-06-01 00:00+00', '-1 day');
SELECT idgen_create_partitions('event', '2024-01-01 00:00+00', '2026-02-01 00:00+00', '1 month');
SELECT idgen_create_partitions('event', '2026-05-01 00:00+00', '2026-05-01 00:00:01+00', '10 microseconds');
SELECT idgen_create_partitions('event', '2026-01-01 00:00+00', '2026-01-02 00:00+00', '1 day');

SET client_min_messages = warning;
DROP SCHEMA partitions CASCADE;

-- Partitions belong to the table's owner.
CREATE ROLE regress_idgen_parts;
CREATE TABLE owned (id bigint DEFAULT idgen_next() PRIMARY KEY) PARTITION BY RANGE (id);
ALTER TABLE owned OWNER TO regress_idgen_parts;
SELECT count(*) FROM idgen_create_partitions('owned', '2026-01-01 00:00+00', '2026-01-03 00:00+00', '1 day');
SELECT DISTINCT relowner::regrole FROM pg_class WHERE relname LIKE 'owned%' AND relkind IN ('r', 'p');
-- What is old goes, and nothing else does.
SELECT idgen_drop_partitions('owned', '2026-01-01 23:59+00');
SELECT idgen_drop_partitions('owned', '2026-01-02 00:00+00', detach => true);
SELECT to_regclass('owned_p20260101') IS NOT NULL AS detached;
SELECT idgen_drop_partitions('owned', 'infinity');
SELECT idgen_drop_partitions('pg_class', now());
DROP TABLE owned, owned_p20260101;
DROP ROLE regress_idgen_parts;
