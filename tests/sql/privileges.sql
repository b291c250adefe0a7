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
SELECT count(*) FROM idgen_status;
SELECT count(*) FROM idgen_status();
SET ROLE regress_idgen_monitor;
SELECT count(*) FROM idgen_status;
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
SELECT count(*) FROM idgen_generators WHERE generator IN ('s.g'::regclass, 's.c'::regclass);
SELECT count(*) > 0 AS presets FROM idgen_presets;
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
