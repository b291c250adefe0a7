-- Who may do what.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
\set VERBOSITY sqlstate
CREATE ROLE regress_idgen_user;
CREATE ROLE regress_idgen_other;
CREATE ROLE regress_idgen_monitor IN ROLE pg_monitor;
CREATE SCHEMA s AUTHORIZATION regress_idgen_user;

-- Anyone takes ids and reads them; what spends time for good is a superuser's, and what watches a monitor's.
SET ROLE regress_idgen_user;
SELECT idgen_next() > 0 AS given, count(*) FROM idgen_next_many(3);
SELECT idgen_machine(0), idgen_timestamp(0) = '2025-01-01 00:00:00+00' AS epoch;
SELECT idgen_accept_clock();
SELECT idgen_raise_horizon('2025-01-01');
SELECT count(*) FROM idgen_status();
SELECT count(*) FROM idgen_status();
SET ROLE regress_idgen_monitor;
SELECT count(*) FROM idgen_status();
SELECT idgen_accept_clock();

-- A generator belongs to who made it, and USAGE or UPDATE on its sequence opens it for others, as for nextval().
SET ROLE regress_idgen_user;
SELECT idgen_create_generator('s.g', 'snowflake');
SELECT idgen_create_generator('s.c', 'counter');
SELECT idgen_next('s.g') > 0 AS given, idgen_sequence(idgen_next('s.c'), 's.c');
SELECT relowner::regrole FROM pg_class WHERE oid = 's.g'::regclass;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g'::regclass);
RESET ROLE;
SELECT 's.g'::regclass::oid AS g, 's.c'::regclass::oid AS c \gset
SET ROLE regress_idgen_other;
SELECT idgen_next(:g);
SELECT idgen_next_many(:g, 3);
SELECT idgen_next(:c);
SELECT idgen_create_generator('s.mine', 'snowflake');
RESET ROLE;
GRANT USAGE ON SCHEMA s TO regress_idgen_other;
GRANT USAGE ON SEQUENCE s.g TO regress_idgen_other;
GRANT UPDATE ON SEQUENCE s.c TO regress_idgen_other;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g') > 0 AS given, idgen_sequence(idgen_next('s.c'), 's.c');
-- Reading ids and the list of generators needs no privilege.
SELECT idgen_machine(0, 's.g'), idgen_sequence(0, 's.c');
SELECT count(*) FROM idgen_generators() WHERE generator IN ('s.g'::regclass, 's.c'::regclass);
SELECT count(*) > 0 AS presets FROM idgen_presets();
-- A revoked privilege ends at once, also for a session that has used it.
RESET ROLE;
REVOKE ALL ON SEQUENCE s.g, s.c FROM regress_idgen_other;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g');
SELECT idgen_next('s.c');
RESET ROLE;
-- SELECT is not enough, and membership in a role that has USAGE is.
GRANT SELECT ON SEQUENCE s.g TO regress_idgen_other;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g');
RESET ROLE;
GRANT regress_idgen_user TO regress_idgen_other;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g') > 0 AS given;
RESET ROLE;
REVOKE regress_idgen_user FROM regress_idgen_other;
SET ROLE regress_idgen_other;
SELECT idgen_next('s.g');
RESET ROLE;
-- A function of the owner's gives ids to who may call it.
SET ROLE regress_idgen_user;
CREATE FUNCTION s.give() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT idgen_next('s.g') > 0 $$;
SET ROLE regress_idgen_other;
SELECT s.give();
RESET ROLE;
DROP SCHEMA s CASCADE;
DROP ROLE regress_idgen_user, regress_idgen_other, regress_idgen_monitor;

-- What somebody has put before pg_catalog in a superuser's search path is never called.
CREATE SCHEMA evil;
DO $$
DECLARE
    name text;
    body text := 'LANGUAGE plpgsql AS $trap$ BEGIN RAISE EXCEPTION ''trapped''; END $trap$';
BEGIN
    FOREACH name IN ARRAY '{quote_ident,quote_literal,lower,upper,to_regclass,parse_ident}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(text) RETURNS text %s', name, body);
    END LOOP;
    FOREACH name IN ARRAY '{text,oid,bigint,name,timestamptz}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION evil.trap(%s, %1$s) RETURNS boolean %s', name, body);
        EXECUTE format('CREATE OPERATOR evil.= (LEFTARG = %s, RIGHTARG = %1$s, FUNCTION = evil.trap)', name);
        EXECUTE format('CREATE OPERATOR evil.< (LEFTARG = %s, RIGHTARG = %1$s, FUNCTION = evil.trap)', name);
    END LOOP;
    FOREACH name IN ARRAY '{pg_class,pg_sequence,pg_constraint,pg_settings,idgen_presets}'::text[] LOOP
        EXECUTE format('CREATE VIEW evil.%I AS SELECT 1 / (random() * 0) AS oid', name);
    END LOOP;
END $$;
CREATE TABLE evil_rows (id bigserial PRIMARY KEY, n int);
CREATE TABLE evil_parts (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
SET search_path = evil, pg_catalog, public, pg_temp;
SELECT lower('the trap is set');
SELECT idgen_create_generator('public.evil_g', 'snowflake'), idgen_create_generator('public.evil_c', 'counter');
SELECT idgen_next('public.evil_g') IS NULL, idgen_sequence(idgen_next('public.evil_c'), 'public.evil_c');
SELECT count(*) > 0 AS done FROM idgen_adopt('public.evil_rows', 'id');
SELECT count(*) > 0 AS done FROM idgen_abandon('public.evil_rows', 'id');
SELECT count(*) > 0 AS done FROM idgen_create_partitions('public.evil_parts', '2026-01-01', '2026-03-01', '1 month');
SELECT count(*) > 0 AS listed FROM idgen_generators();
SELECT count(*) >= 0 AS listed FROM idgen_columns();
SELECT count(*) FROM idgen_status();
SELECT count(*) >= 0 AS looked FROM idgen_doctor();
SELECT idgen_from_text(idgen_to_text(5)), idgen_from_uuid(idgen_to_uuid(5)), idgen_min_id('2026-01-01+00'), idgen_next_uuid() IS NULL;
RESET search_path;
DROP TABLE evil_rows, evil_parts;
DROP SEQUENCE evil_g, evil_c;
DROP SCHEMA evil CASCADE;
