-- idgen_doctor(): what it finds in a database. What it finds on servers is in tests/clusters/migration.rs.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
CREATE SCHEMA doctor;
SET search_path = doctor, public;

CREATE TABLE healthy (id bigint PRIMARY KEY DEFAULT idgen_next());
CREATE TABLE referring (healthy bigint REFERENCES healthy);
CREATE VIEW findings AS SELECT * FROM idgen_doctor() WHERE object LIKE 'doctor.%';
SELECT * FROM findings;

-- Columns that ids do not fit in.
CREATE TABLE narrow (id integer DEFAULT idgen_next(), healthy integer REFERENCES healthy);
SELECT * FROM findings;
DROP TABLE narrow;

-- Sequences left behind.
CREATE TABLE adopted (id bigint DEFAULT idgen_next(), number bigserial) PARTITION BY HASH (id);
CREATE TABLE adopted_0 PARTITION OF adopted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE adopted_1 (id bigserial NOT NULL, number bigint NOT NULL);
ALTER TABLE adopted ATTACH PARTITION adopted_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT idgen_create_generator('counter', preset => 'counter', schema => 'doctor');
CREATE TABLE misled (id bigint DEFAULT nextval('counter'));
SELECT * FROM findings;
DROP TABLE adopted, misled;

-- The sequence of an abandoned key is above its ids, also before it gives its first number.
SET client_min_messages = error;
CREATE TABLE abandoned (id bigserial PRIMARY KEY);
SELECT count(*) > 0 AS done FROM idgen_adopt('abandoned', 'id');
INSERT INTO abandoned DEFAULT VALUES;
SELECT count(*) > 0 AS done FROM idgen_abandon('abandoned', 'id');
SELECT * FROM findings;
SELECT setval('abandoned_id_seq', max(id), false) = max(id) AS behind FROM abandoned;
SELECT finding, object FROM findings;
DROP TABLE abandoned;
SET client_min_messages = warning;

-- Generators that come to their end.
SELECT idgen_create_generator('ended', timestamp_bits => 20, tick => '1 ms', epoch => '2025-01-01 00:00:00+00', schema => 'doctor');
SELECT idgen_create_generator('nearly', timestamp_bits => 24, tick => '1 s', epoch => date_trunc('hour', now()) - interval '190 days',
    schema => 'doctor');
ALTER SEQUENCE counter RESTART WITH 9000000000000000;
SELECT nextval('counter') > 0;
SELECT * FROM findings WHERE object <> 'doctor.nearly';
SELECT severity, finding FROM findings WHERE object = 'doctor.nearly';

-- It is not for everybody.
CREATE ROLE idgen_regress_visitor;
GRANT USAGE ON SCHEMA doctor TO idgen_regress_visitor;
SET ROLE idgen_regress_visitor;
SELECT * FROM idgen_doctor();
RESET ROLE;
GRANT pg_monitor TO idgen_regress_visitor;
SET ROLE idgen_regress_visitor;
SELECT finding, remedy FROM idgen_doctor() WHERE object LIKE 'max\_%';
RESET ROLE;

DROP SCHEMA doctor CASCADE;
DROP ROLE idgen_regress_visitor;
