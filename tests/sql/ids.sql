-- Every place in which a statement may ask for an id. No id is printed: comparisons are.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
\set VERBOSITY sqlstate

SELECT idgen_next() > 0 AS positive, idgen_next() < idgen_next() AS increasing;
SELECT count(*), count(DISTINCT id), bool_and(id > before) AS increasing
FROM (SELECT id, lag(id, 1, 0::bigint) OVER () AS before FROM idgen_next_many(10000) AS id) AS ids;
SELECT count(*), count(DISTINCT id) FROM (SELECT idgen_next() AS id FROM generate_series(1, 10000)) AS ids;
SELECT count(*) FROM idgen_next_many(0);
SELECT count(*) FROM idgen_next_many(NULL);
SELECT * FROM idgen_next_many(-1);
SELECT count(*) FROM (SELECT idgen_next_many(2147483647) LIMIT 3) AS three;

-- In a READ ONLY transaction, and in one that is rolled back: what was given stays given.
BEGIN READ ONLY;
SELECT idgen_next() AS first \gset
ROLLBACK;
SELECT idgen_next() > :first AS above;
BEGIN;
SELECT idgen_next() AS second \gset
SAVEPOINT s;
SELECT idgen_next() AS third \gset
ROLLBACK TO s;
SELECT :second < :third AND :third < idgen_next() AS above;
SELECT 1 / 0;
ROLLBACK;
SELECT :third < idgen_next() AS above;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT idgen_next() > :third AS above;
COMMIT;

-- Prepared, by a generic plan too.
SET plan_cache_mode = force_generic_plan;
PREPARE one AS SELECT idgen_next();
EXECUTE one \gset a_
EXECUTE one \gset b_
SELECT :a_idgen_next < :b_idgen_next AS increasing;
PREPARE many(int) AS SELECT count(DISTINCT id) FROM idgen_next_many($1) AS id;
EXECUTE many(3);
EXECUTE many(5);
DEALLOCATE ALL;
RESET plan_cache_mode;

-- A cursor takes ids as it is read.
BEGIN;
DECLARE c CURSOR FOR SELECT idgen_next_many(1000000000);
MOVE 10 c;
FETCH 1 FROM c \gset
CLOSE c;
SELECT idgen_next() > :idgen_next_many AS above;
COMMIT;

-- In PL/pgSQL.
DO $$
DECLARE
    before bigint := idgen_next();
    id bigint;
BEGIN
    FOR i IN 1..1000 LOOP
        id := idgen_next();
        ASSERT id > before;
        before := id;
    END LOOP;
    BEGIN
        id := idgen_next();
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        ASSERT id > before;
    END;
    ASSERT idgen_next() > id;
END;
$$;
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
DECLARE
    before bigint := 0;
    id bigint;
BEGIN
    FOR i IN 1..10 LOOP
        id := idgen_next();
        ASSERT id > before;
        before := id;
        COMMIT;
    END LOOP;
END;
$$;
CALL commits();
DROP PROCEDURE commits;

-- As a default, in a trigger, by COPY, MERGE and ON CONFLICT, and in a partitioned table.
CREATE TABLE t (id bigint DEFAULT idgen_next() PRIMARY KEY, n int UNIQUE, by_trigger bigint);
CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.by_trigger := idgen_next();
    RETURN NEW;
END;
$$;
CREATE TRIGGER give BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION give();
INSERT INTO t (n) SELECT n FROM generate_series(1, 1000) AS n;
COPY t (n) FROM STDIN;
1001
1002
\.
INSERT INTO t (n) VALUES (1), (1003) ON CONFLICT (n) DO UPDATE SET n = -t.n;
MERGE INTO t USING (VALUES (1002), (1004)) AS s (n) ON t.n = s.n
WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (n) VALUES (s.n);
SELECT count(*), count(DISTINCT id), bool_and(by_trigger > id) AS ordered, min(n) FROM t;
WITH new AS (INSERT INTO t (n) VALUES (2000) RETURNING id) SELECT id = (SELECT max(id) FROM new) AS returned FROM new;
UPDATE t SET by_trigger = NULL WHERE n = 2000;
SELECT by_trigger > (SELECT max(id) FROM t) AS above FROM t WHERE n = 2000;
ALTER TABLE t ADD COLUMN other bigint DEFAULT idgen_next();
SELECT count(DISTINCT other) = count(*) AS distinct FROM t;
DROP TABLE t;
DROP FUNCTION give;
CREATE TABLE p (id bigint DEFAULT idgen_next(), k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
INSERT INTO p (k) SELECT 1 + n % 2 FROM generate_series(1, 100) AS n;
INSERT INTO p1 (k) VALUES (1);
SELECT count(*), count(DISTINCT id) FROM p;
DROP TABLE p;

-- Beside parallel workers: by the leader, in the order of its rows.
CREATE TABLE big AS SELECT FROM generate_series(1, 100000);
ALTER TABLE big SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(idgen_next()) FROM big;
SELECT count(*), count(DISTINCT id) FROM (SELECT idgen_next() AS id FROM big) AS ids;
RESET ALL;
DROP TABLE big;

-- The view that watches has one row.
SELECT machine_id = current_setting('idgen.machine_id')::int AS machine, last_timestamp = idgen_timestamp(last_id) AS last,
    horizon > last_timestamp AS covered, horizon_moves > 0 AS moves, worker_pid > 0 AS worker,
    abs(extract(epoch FROM effective_clock - clock_timestamp())) < 60 AS clock,
    clock_held = interval '0' AS held, horizon_waits >= 0 AS waits, loan_sleeps >= 0 AS sleeps, clock_steps >= 0 AS steps
FROM idgen_status();

-- Settings: a session says how long it waits, and nothing else.
SET idgen.wait_timeout = '1s';
SHOW idgen.wait_timeout;
SET idgen.machine_id = 7;
SET idgen.horizon_lead = '1s';
SET idgen.max_borrow = '1h';
SET idgen.max_clock_jump = -1;
SET idgen.max_generators = 1;
SET idgen.nothing = 1;
RESET ALL;
SELECT name, setting, unit, context FROM pg_settings WHERE name ~ '^idgen\.' AND name <> 'idgen.machine_id'
    AND name IN ('idgen.horizon_lead', 'idgen.max_borrow', 'idgen.max_clock_jump', 'idgen.max_generators', 'idgen.wait_timeout')
ORDER BY name;
