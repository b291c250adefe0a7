-- Other forms of ids. The opaque form needs a key that only the server's configuration can hold: tests/clusters.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;

-- Text reads back, and sorts as the ids do.
SELECT id, idgen_to_text(id), idgen_from_text(idgen_to_text(id)) = id AS back
FROM unnest('{0, 31, 32, 1234, 252201579132747776, 9223372036854775807}'::bigint[]) id;
SELECT count(*) AS wrong
FROM (SELECT id, row_number() OVER (ORDER BY id) AS by_id, row_number() OVER (ORDER BY idgen_to_text(id)) AS by_text,
        row_number() OVER (ORDER BY idgen_to_uuid(id)) AS by_uuid
    FROM (SELECT i::bigint * 92233720368547 FROM generate_series(0, 99999, 7) i) ids(id)) places
WHERE by_id <> by_text OR by_id <> by_uuid
    OR idgen_from_text(idgen_to_text(id)) <> id OR idgen_from_uuid(idgen_to_uuid(id)) <> id;

-- It is read as it was heard or copied.
SELECT idgen_from_text('07000-0000-00ol') = idgen_from_text('0700000000001') AS same;

-- And refused when it is not all there, or not the text of an id.
SELECT idgen_from_text('070000000000');
\set VERBOSITY sqlstate
SELECT idgen_from_text('');
SELECT idgen_from_text('0700000000000-0');
SELECT idgen_from_text('U700000000000');
SELECT idgen_from_text('8000000000000');
SELECT idgen_from_text('070000000000é');
SELECT idgen_to_text(-1);

-- UUIDs of version 8.
SELECT id, idgen_to_uuid(id), idgen_from_uuid(idgen_to_uuid(id)) = id AS back
FROM unnest('{0, 1311768467463790327, 9223372036854775807}'::bigint[]) id;
\set VERBOSITY default
SELECT idgen_from_uuid('12345678-9abc-8def-9c00-00696467656f');
\set VERBOSITY sqlstate
SELECT idgen_from_uuid('017f22e2-79b0-7cc3-98c4-dc0c0c07398f');
SELECT idgen_to_uuid(-1);

-- UUIDs of version 7: the version and the variant, the server's time, its machine id, and increasing with the ids.
CREATE FUNCTION bits_of(uuid uuid, first int, count int) RETURNS bigint IMMUTABLE LANGUAGE sql
RETURN substring(('x' || replace(uuid::text, '-', ''))::bit(128), first + 1, count)::bigint;
SELECT bool_and(bits_of(uuid, 48, 4) = 7) AS version_7, bool_and(bits_of(uuid, 64, 2) = 2) AS variant,
    bool_and(bits_of(uuid, 66, 10) = current_setting('idgen.machine_id')::int) AS machine,
    bool_and(abs(bits_of(uuid, 0, 48) / 1000.0 - extract(epoch FROM clock_timestamp())) < 10) AS near,
    bool_and(uuid > before) AS rises, count(DISTINCT bits_of(uuid, 76, 52)) AS random
FROM (SELECT uuid, lag(uuid) OVER (ORDER BY n) AS before
    FROM (SELECT n, idgen_next_uuid() AS uuid FROM generate_series(1, 20000) n OFFSET 0) uuids) pairs;
WITH a AS MATERIALIZED (SELECT idgen_next() AS id), b AS MATERIALIZED (SELECT a.id, idgen_next_uuid() AS uuid FROM a),
    c AS MATERIALIZED (SELECT b.*, idgen_next() AS next FROM b)
SELECT (id >> 22, id & 4095) < (ms, sequence) AS after_the_id_before,
    (ms, sequence) < (next >> 22, next & 4095) AS before_the_id_after
FROM (SELECT c.*, bits_of(uuid, 0, 48) - 1735689600000 AS ms, bits_of(uuid, 52, 12) AS sequence FROM c) d;

-- They may stand where PostgreSQL wants an immutable function, and in read-only transactions.
CREATE TEMP TABLE orders (id bigint, code text GENERATED ALWAYS AS (idgen_to_text(id)) STORED, uuid uuid DEFAULT idgen_next_uuid());
CREATE INDEX ON orders (idgen_to_uuid(id));
INSERT INTO orders (id) VALUES (1234) RETURNING code;
BEGIN READ ONLY;
SELECT idgen_next_uuid() < idgen_next_uuid() AS rises;
COMMIT;
DROP FUNCTION bits_of;

SELECT oid::regprocedure, provolatile AS volatile, proparallel AS parallel, proisstrict AS strict
FROM pg_proc
WHERE proname ~ '^idgen_((to|from)_(text|uuid|opaque)|next_uuid)$'
ORDER BY proname COLLATE "C";
