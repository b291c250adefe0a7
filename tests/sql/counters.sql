-- A counter stands on a sequence. In one session its values are known, and printed.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
\set VERBOSITY sqlstate
CREATE SCHEMA c;
SET search_path = c, public;
CREATE FUNCTION value(counter regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT idgen_sequence(idgen_next(counter), counter) $$;

SELECT idgen_create_generator('counter', 'counter', flush_every => 50);
SELECT definition, flush_every, epoch, ends, tick, per_second FROM idgen_generators() WHERE generator = 'counter'::regclass;
SELECT value('counter'), value('counter'), value('counter');
SELECT machine = current_setting('idgen.machine_id')::int AS machine, at, backend, sequence
FROM idgen_decode(idgen_next('counter'), 'counter');
SELECT min(v), max(v), count(DISTINCT v) FROM (SELECT idgen_sequence(id, 'counter') AS v FROM idgen_next_many('counter', 1013) AS id) AS t;
-- A rolled back transaction takes its values with it, and no more.
BEGIN READ ONLY;
SELECT value('counter');
ROLLBACK;
SELECT value('counter');
-- nextval() by others takes what no block holds.
SELECT value('counter') AS before, nextval('counter') AS others \gset
SELECT value('counter') AS after \gset
SELECT :others > :after AS beyond_the_block;
SELECT count(*) = count(DISTINCT v) AND bool_and(v <> :others) AS distinct
FROM (SELECT idgen_sequence(id, 'counter') AS v FROM idgen_next_many('counter', 1000) AS id) AS t;

-- Forward is harmless. Back is the owner's act, and answered with a warning: at the end of what is cached.
\set VERBOSITY terse
SELECT setval('counter', 100000);
SELECT max(idgen_sequence(id, 'counter')) BETWEEN 100001 AND 100600 AS beyond FROM idgen_next_many('counter', 400) AS id;
SELECT idgen_create_generator('back', 'counter', flush_every => 2);
SELECT value('back'), value('back'), value('back'), value('back');
SELECT setval('back', 2);
DO $$ BEGIN PERFORM value('back') FROM generate_series(1, 8); END $$;
\set VERBOSITY sqlstate

-- ALTER SEQUENCE takes effect at once and skips what was cached. Bounds, cache and type do no harm; what a counter cannot
-- be is refused, until it is put right.
SELECT idgen_create_generator('altered', 'counter', flush_every => 10);
SELECT value('altered');
ALTER SEQUENCE altered INCREMENT 2;
SELECT value('altered');
ALTER SEQUENCE altered INCREMENT -1;
SELECT value('altered');
ALTER SEQUENCE altered INCREMENT 1 CYCLE;
SELECT value('altered');
ALTER SEQUENCE altered NO CYCLE CACHE 100;
SELECT value('altered') > 1 AS above;
ALTER SEQUENCE altered MAXVALUE 1000;
SELECT setval('altered', 996);
ALTER SEQUENCE altered OWNED BY NONE;
SELECT array_agg(idgen_sequence(id, 'altered')) FROM idgen_next_many('altered', 4) AS id WHERE idgen_sequence(id, 'altered') >= 996;
SELECT max(value('altered')) FROM generate_series(1, 100);
SELECT value('altered');
ALTER SEQUENCE altered MAXVALUE 1001;
SELECT value('altered');
SELECT value('altered');
ALTER SEQUENCE altered MAXVALUE 2000 MINVALUE -10 RESTART -5;
SELECT value('altered');
ALTER SEQUENCE altered RESTART 1500;
SELECT value('altered');
ALTER SEQUENCE altered AS integer;
SELECT value('altered') > 1500 AS above;
ALTER SEQUENCE altered SET UNLOGGED;
SELECT value('altered');
ALTER SEQUENCE altered SET LOGGED;
SELECT value('altered') > 1501 AS above;
CREATE ROLE regress_idgen_owner;
GRANT USAGE ON SCHEMA c TO regress_idgen_owner;
ALTER SEQUENCE altered OWNER TO regress_idgen_owner;
SET ROLE regress_idgen_owner;
SELECT value('altered') > 1502 AS above;
RESET ROLE;
DROP SEQUENCE altered;
REVOKE ALL ON SCHEMA c FROM regress_idgen_owner;
DROP ROLE regress_idgen_owner;

-- RESTART is the owner's act too, with a warning; rolled back, it has not been.
SELECT idgen_create_generator('rolled', 'counter', flush_every => 10);
SELECT value('rolled'), value('rolled');
BEGIN;
ALTER SEQUENCE rolled RESTART;
SELECT value('rolled');
ROLLBACK;
SELECT value('rolled') > 2 AS above;
ALTER SEQUENCE rolled RESTART;
SELECT value('rolled');

-- Of a table: TRUNCATE ... RESTART IDENTITY restarts it, and a dropped table takes it along.
SELECT idgen_create_generator('owned', 'counter');
CREATE TABLE t (id bigint DEFAULT idgen_next('owned') PRIMARY KEY, n int);
ALTER SEQUENCE owned OWNED BY t.id;
INSERT INTO t (n) VALUES (1), (2), (3);
SELECT array_agg(idgen_sequence(id, 'owned') ORDER BY n) FROM t;
BEGIN;
TRUNCATE t RESTART IDENTITY;
INSERT INTO t (n) VALUES (4);
SELECT array_agg(idgen_sequence(id, 'owned') ORDER BY n) FROM t;
ROLLBACK;
INSERT INTO t (n) VALUES (5);
SELECT count(DISTINCT id), max(idgen_sequence(id, 'owned')) > 3 AS above FROM t;
TRUNCATE t RESTART IDENTITY;
INSERT INTO t (n) VALUES (6);
SELECT array_agg(idgen_sequence(id, 'owned') ORDER BY n) FROM t;
DROP TABLE t;
SELECT to_regclass('owned');

-- At the end there is an error, and no wrap.
SELECT idgen_create_generator('ends', 'counter', flush_every => 1000);
SELECT setval('ends', (1::bigint << 53) - 4);
SELECT idgen_sequence(id, 'ends') - (1::bigint << 53) AS before_the_end FROM idgen_next_many('ends', 3) AS id;
SELECT value('ends');
SELECT value('ends');
SELECT * FROM idgen_next_many('ends', 10);
SELECT used > 0.99 AS used FROM idgen_generators() WHERE generator = 'ends'::regclass;
CREATE SEQUENCE whole;
SECURITY LABEL FOR idgen ON SEQUENCE whole IS 'counter:63 flush:10';
SELECT setval('whole', 9223372036854775806);
SELECT value('whole');
SELECT value('whole');
-- The largest block there is.
SELECT idgen_create_generator('large', 'counter', flush_every => 2147483648);
SELECT value('large'), value('large');
-- One value at a time.
SELECT idgen_create_generator('single', 'counter', flush_every => 1);
SELECT value('single'), value('single'), value('single');
DROP SCHEMA c CASCADE;
