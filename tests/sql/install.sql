-- The extension is installed in a schema of its choice, and removed without a trace.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS idgen CASCADE;
CREATE SCHEMA "else%where";
CREATE EXTENSION idgen SCHEMA "else%where";
SELECT extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'idgen') AS newest
FROM pg_extension WHERE extname = 'idgen';
CREATE TABLE "else%where".t (id bigint DEFAULT "else%where".idgen_next() PRIMARY KEY);
INSERT INTO "else%where".t DEFAULT VALUES;
INSERT INTO "else%where".t DEFAULT VALUES;
SELECT count(*), max(id) > min(id) AS ordered FROM "else%where".t;
SELECT "else%where".idgen_create_generator('"else%where".g', 'snowflake');
SELECT at IS NOT NULL AS at, machine = current_setting('idgen.machine_id')::int AS machine, backend, sequence IS NOT NULL AS sequence
FROM "else%where".idgen_decode("else%where".idgen_next('"else%where".g'), '"else%where".g');
SELECT generator, definition, used BETWEEN 0 AND 1 AS used FROM "else%where".idgen_generators();
CREATE TABLE "else%where".old (id bigserial PRIMARY KEY);
SELECT count(*) > 0 AS adopted FROM "else%where".idgen_adopt('"else%where".old', 'id');
SELECT count(*) > 0 AS abandoned FROM "else%where".idgen_abandon('"else%where".old', 'id');
DROP EXTENSION idgen;
DROP TABLE "else%where".t;
DROP EXTENSION idgen;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'idgen%';
DROP SCHEMA "else%where" CASCADE;

-- What a user sees: every object has the prefix and a comment.
CREATE EXTENSION idgen;
SELECT pg_describe_object(classid, objid, 0) AS object
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idgen')
    AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
    AND (obj_description(objid, classid::regclass::name) IS NULL
        OR (pg_identify_object(classid, objid, 0)).identity NOT LIKE 'public.idgen\_%')
ORDER BY 1;

-- Functions, and nothing else: no table, view, sequence or type.
SELECT classid::regclass AS kind, count(*) > 0 AS some FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idgen')
GROUP BY 1;
-- The book is elsewhere: in the one database that is an authority's.
CREATE EXTENSION idgen_authority;
SELECT pg_describe_object(classid, objid, 0) AS object, obj_description(objid, classid::regclass::name) IS NOT NULL AS commented
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idgen_authority')
    AND classid <> 'pg_type'::regclass -- of the table, from PostgreSQL 18 on
ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";
DROP EXTENSION idgen_authority;

-- Giving out is volatile and done by the leader of a parallel query; reading an id is immutable, and done anywhere.
SELECT oid::regprocedure, provolatile AS volatile, proparallel AS parallel, proisstrict AS strict
FROM pg_proc
WHERE proname ~ '^idgen_(next|next_many|timestamp|machine|backend|sequence|min_id|max_id|decode|accept_clock|raise_horizon|status)$'
ORDER BY proname COLLATE "C", pronargs;
