-- complain if script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION idgen" to load this file. \quit

-- Functions only: nothing that a dump, a publication or a schema tool could trip over. A role that may create objects in the extension's
-- schema must not be able to put in its own: every body names the extension's schema, or finds names and operators in pg_catalog alone.

-- Giving out ids: in the leader of a parallel query, as nextval() does, so that ids come in the order of the query's rows.

CREATE FUNCTION idgen_support(request internal) RETURNS internal
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_support';
COMMENT ON FUNCTION idgen_support(internal) IS
'for the planner: has COPY FROM insert rows with ids in batches';

CREATE FUNCTION idgen_next() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL RESTRICTED SUPPORT @extschema@.idgen_support
AS 'MODULE_PATHNAME', 'idgen_next_wrapper';
COMMENT ON FUNCTION idgen_next() IS
'the next id of this server: unique over all servers with different machine ids, greater than every id it gave before, durable before it is visible';

CREATE FUNCTION idgen_next_many(n integer) RETURNS SETOF bigint
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000
AS 'MODULE_PATHNAME', 'idgen_next_many_wrapper';
COMMENT ON FUNCTION idgen_next_many(integer) IS
'n ids of this server, increasing, each as if from idgen_next()';

CREATE FUNCTION idgen_next_uuid() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL RESTRICTED SUPPORT @extschema@.idgen_support
AS 'MODULE_PATHNAME', 'idgen_next_uuid_wrapper';
COMMENT ON FUNCTION idgen_next_uuid() IS
'the next UUID of version 7 of this server: unique and increasing as what idgen_next() gives; milliseconds since 1970, sequence, machine id, 52 random bits';

-- Reading ids. These functions need no preload, and none depends on a setting, so they may stand in indexes and prune partitions.

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
    SELECT @extschema@.idgen_timestamp(id), @extschema@.idgen_machine(id), @extschema@.idgen_sequence(id);
END;
COMMENT ON FUNCTION idgen_decode(bigint) IS
'all that an id says: when, on which machine, and its number within the millisecond';

CREATE FUNCTION idgen_min_id("at" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_min_id_wrapper';
COMMENT ON FUNCTION idgen_min_id(timestamptz) IS
'the smallest id of that millisecond on any machine: id >= idgen_min_id(t) is everything since t, for any t';

CREATE FUNCTION idgen_max_id("at" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_max_id_wrapper';
COMMENT ON FUNCTION idgen_max_id(timestamptz) IS
'the largest id of that millisecond on any machine: id <= idgen_max_id(t) is everything up to t, for any t';

-- The same under names that are not overloaded, for partitioning tools, which take a function's name and no arguments.

CREATE FUNCTION idgen_id_to_time(id bigint) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_timestamp_wrapper';
COMMENT ON FUNCTION idgen_id_to_time(bigint) IS
'idgen_timestamp(id)';

CREATE FUNCTION idgen_time_to_id("at" timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_min_id_wrapper';
COMMENT ON FUNCTION idgen_time_to_id(timestamptz) IS
'idgen_min_id(at)';

-- Generators: a layout of your own or a published one, behind a sequence that carries its name and privileges.

CREATE FUNCTION idgen_presets(OUT preset text, OUT definition text, OUT purpose text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 12
BEGIN ATOMIC
VALUES
    ('timestamp', 'timestamp:63 epoch:0 tick:1',
     'microseconds since 1970; one server, no machine id'),
    ('timestamp_machine', 'timestamp:41 machine:10 epoch:1735689600000000 tick:1000',
     'several servers, one id a millisecond sustained; 51 bits, exact in JavaScript'),
    ('timestamp_machine_backend', 'timestamp:41 machine:6 backend:10 sequence:6 epoch:1735689600000000 tick:1000',
     'each session has a stream of its own and shares nothing; ordered in each session only'),
    ('snowflake', 'timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000',
     'the layout of idgen_next()'),
    ('counter', 'counter:53 machine:10 flush:1000',
     'dense and without a clock; a crash skips the rest of a block of flush_every'),
    ('js_safe', 'timestamp:41 machine:5 sequence:7 epoch:1735689600000000 tick:1000',
     '53 bits in all, exact in JavaScript; 32 servers, 128 ids a millisecond'),
    ('instagram', 'timestamp:40 machine:13 sequence:10 epoch:1314220021721000 tick:1000',
     'continues ids of Instagram''s function: milliseconds since 2011-08-24, shard, sequence; ends in 2046'),
    ('sonyflake', 'timestamp:39 sequence:8 machine:16 epoch:1409529600000000 tick:10000',
     'continues Sonyflake ids: 10 milliseconds since 2014-09-01, sequence, machine'),
    ('twitter', 'timestamp:41 machine:10 sequence:12 epoch:1288834974657000 tick:1000',
     'continues Twitter snowflakes: milliseconds since 2010-11-04, datacenter and worker, sequence'),
    ('discord', 'timestamp:41 machine:10 sequence:12 epoch:1420070400000000 tick:1000',
     'continues Discord snowflakes: milliseconds since 2015, worker and process, increment'),
    ('mastodon', 'timestamp:47 sequence:16 epoch:0 tick:1000',
     'continues ids of Mastodon''s timestamp_id(): milliseconds since 1970, 16 bits of sequence; no machine id'),
    ('pgedge', 'timestamp:41 machine:10 sequence:12 epoch:1672531200000000 tick:1000',
     'continues ids of the pgEdge snowflake extension from 1.2 on: milliseconds since 2023, node, count');
END;
COMMENT ON FUNCTION idgen_presets() IS
'the layouts that idgen_create_generator() knows by name: fields from the highest bits down, epoch and tick in microseconds';

CREATE FUNCTION idgen_create_generator(
    name text, preset text DEFAULT NULL,
    timestamp_bits integer DEFAULT NULL, machine_bits integer DEFAULT 0,
    backend_bits integer DEFAULT 0, sequence_bits integer DEFAULT 0,
    epoch timestamptz DEFAULT '2025-01-01 00:00:00+00', tick interval DEFAULT '1 ms',
    flush_every bigint DEFAULT NULL, schema name DEFAULT pg_catalog.current_schema(),
    ordering text DEFAULT 'server') RETURNS regclass
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[] := parse_ident(name);
    sequence text;
    definition text;
    is_counter boolean;
BEGIN
    IF name IS NULL OR machine_bits IS NULL OR backend_bits IS NULL OR sequence_bits IS NULL OR epoch IS NULL OR tick IS NULL
        OR ordering IS NULL
    THEN
        RAISE null_value_not_allowed USING
            MESSAGE = format('argument "%s" of idgen_create_generator() is null', CASE WHEN name IS NULL THEN 'name'
                WHEN machine_bits IS NULL THEN 'machine_bits' WHEN backend_bits IS NULL THEN 'backend_bits'
                WHEN sequence_bits IS NULL THEN 'sequence_bits' WHEN epoch IS NULL THEN 'epoch'
                WHEN tick IS NULL THEN 'tick' ELSE 'ordering' END),
            HINT = 'Leave it out to have its default.';
    ELSIF cardinality(parts) < 2 AND schema IS NULL THEN
        RAISE invalid_schema_name USING
            MESSAGE = 'no schema has been selected to create the generator in',
            HINT = 'Give the name with its schema, or set search_path.';
    ELSIF NOT isfinite(epoch) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('%s is no epoch', epoch),
            HINT = 'Give the time at which the timestamps of the layout begin.';
    END IF;
    IF cardinality(parts) > 2 THEN
        RAISE invalid_name USING MESSAGE = format('"%s" is not a name or a schema and a name', name);
    END IF;
    sequence := quote_ident(CASE cardinality(parts) WHEN 2 THEN parts[1] ELSE schema END)
        || '.' || quote_ident(parts[cardinality(parts)]);
    IF (preset IS NULL) = (timestamp_bits IS NULL) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'a generator needs either a preset or timestamp_bits',
            HINT = 'SELECT * FROM idgen_presets() shows the presets.';
    ELSIF preset IS NOT NULL THEN
        SELECT p.definition INTO definition FROM @extschema@.idgen_presets() p WHERE p.preset = $2;
        IF NOT FOUND THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('there is no preset "%s"', preset),
                HINT = 'SELECT * FROM idgen_presets() shows the presets.';
        END IF;
    ELSE
        definition := format('timestamp:%s%s%s%s epoch:%s tick:%s', timestamp_bits,
            CASE WHEN machine_bits <> 0 THEN ' machine:' || machine_bits END,
            CASE WHEN backend_bits <> 0 THEN ' backend:' || backend_bits END,
            CASE WHEN sequence_bits <> 0 THEN ' sequence:' || sequence_bits END,
            (extract(epoch FROM epoch) * 1000000)::bigint, (extract(epoch FROM tick) * 1000000)::bigint);
    END IF;
    is_counter := definition LIKE 'counter:%';
    IF flush_every IS NOT NULL THEN
        IF NOT is_counter THEN
            RAISE invalid_parameter_value USING
                MESSAGE = 'only a counter has flush_every',
                HINT = 'Use preset => ''counter''.';
        END IF;
        definition := regexp_replace(definition, 'flush:\d+', 'flush:' || flush_every);
    END IF;
    IF ordering = 'block' THEN
        -- A counter that is dense over all servers has no machine id.
        definition := regexp_replace(definition, '^counter:53 machine:10', 'counter:63');
    END IF;
    IF ordering <> 'server' AND definition NOT LIKE '% order:%' THEN
        definition := definition || ' order:' || ordering;
    END IF;
    IF is_counter THEN
        EXECUTE format('CREATE SEQUENCE %s MAXVALUE %s NO CYCLE', sequence,
            (2::numeric ^ substring(definition FROM 'counter:(\d+)')::int)::numeric(20) - 1);
    ELSE
        -- The sequence only lends its name. Whatever setval() or replication sets it to, nextval() finds no value beyond that; and
        -- after RESTART, or in a dump without data, only the largest of all, which is no id yet.
        -- It descends, since monitoring takes one with such a step upwards for used up.
        EXECUTE format('CREATE SEQUENCE %s INCREMENT -%s MINVALUE 1 MAXVALUE %2$s START %2$s', sequence, 9223372036854775807);
        PERFORM setval(sequence::regclass, 1);
    END IF;
    EXECUTE format('SECURITY LABEL FOR idgen ON SEQUENCE %s IS %L', sequence, definition);
    RETURN sequence::regclass;
END;
$$;
COMMENT ON FUNCTION idgen_create_generator(text, text, integer, integer, integer, integer, timestamptz, interval, bigint, name, text) IS
'makes a generator: a sequence that is dropped, renamed, granted and dumped as any other, whose ids idgen_next(generator) gives; by preset, or by bits from the highest down, epoch and tick; ordering is server, gossip, strict or, for a counter, block';

CREATE FUNCTION idgen_next(generator regclass) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED SUPPORT @extschema@.idgen_support
AS 'MODULE_PATHNAME', 'idgen_next_of_wrapper';
COMMENT ON FUNCTION idgen_next(regclass) IS
'the next id of the generator; needs USAGE or UPDATE on its sequence, as nextval() does';

-- The functions that COPY FROM calls instead, with a label for which it inserts in batches. SQL has no value of type internal.

CREATE FUNCTION idgen_next_in_copy(internal) RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_next_wrapper';
COMMENT ON FUNCTION idgen_next_in_copy(internal) IS
'idgen_next() in a COPY FROM';

CREATE FUNCTION idgen_next_in_copy(generator regclass, internal) RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_next_of_wrapper';
COMMENT ON FUNCTION idgen_next_in_copy(regclass, internal) IS
'idgen_next(generator) in a COPY FROM';

CREATE FUNCTION idgen_next_uuid_in_copy(internal) RETURNS uuid
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_next_uuid_wrapper';
COMMENT ON FUNCTION idgen_next_uuid_in_copy(internal) IS
'idgen_next_uuid() in a COPY FROM';

CREATE FUNCTION idgen_next_many(generator regclass, n integer) RETURNS SETOF bigint
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 1000
AS 'MODULE_PATHNAME', 'idgen_next_many_of_wrapper';
COMMENT ON FUNCTION idgen_next_many(regclass, integer) IS
'n ids of the generator, increasing, each as if from idgen_next(generator)';

-- A definition never changes, so these functions are immutable.

CREATE FUNCTION idgen_timestamp(id bigint, generator regclass) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_timestamp_of_wrapper';
COMMENT ON FUNCTION idgen_timestamp(bigint, regclass) IS
'when the tick of the generator''s id began';

CREATE FUNCTION idgen_machine(id bigint, generator regclass) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_machine_of_wrapper';
COMMENT ON FUNCTION idgen_machine(bigint, regclass) IS
'the machine id in the generator''s id, 0 if its layout has none';

CREATE FUNCTION idgen_backend(id bigint, generator regclass) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_backend_of_wrapper';
COMMENT ON FUNCTION idgen_backend(bigint, regclass) IS
'the number of the session that took the generator''s id, 0 if its layout has none';

CREATE FUNCTION idgen_sequence(id bigint, generator regclass) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_sequence_of_wrapper';
COMMENT ON FUNCTION idgen_sequence(bigint, regclass) IS
'the number of the generator''s id within its tick; of a counter, the count';

CREATE FUNCTION idgen_min_id("at" timestamptz, generator regclass) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_min_id_of_wrapper';
COMMENT ON FUNCTION idgen_min_id(timestamptz, regclass) IS
'the smallest id of that tick in the generator''s layout';

CREATE FUNCTION idgen_max_id("at" timestamptz, generator regclass) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_max_id_of_wrapper';
COMMENT ON FUNCTION idgen_max_id(timestamptz, regclass) IS
'the largest id of that tick in the generator''s layout';

CREATE FUNCTION idgen_definition(generator regclass, OUT definition text, OUT epoch timestamptz, OUT ends timestamptz,
    OUT tick interval, OUT per_second double precision, OUT max_id bigint, OUT flush_every bigint) RETURNS SETOF record
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'idgen_definition_wrapper';
COMMENT ON FUNCTION idgen_definition(regclass) IS
'what the security label of the generator says, in parts';

CREATE FUNCTION idgen_describe(INOUT definition text, OUT epoch timestamptz, OUT ends timestamptz,
    OUT tick interval, OUT per_second double precision, OUT max_id bigint, OUT flush_every bigint) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'idgen_describe_wrapper';
COMMENT ON FUNCTION idgen_describe(text) IS
'what such a definition means, in parts: of a preset, or of a layout of one''s own before a generator is made of it';

CREATE FUNCTION idgen_decode(id bigint, generator regclass,
    OUT "at" timestamptz, OUT machine integer, OUT backend integer, OUT sequence bigint)
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    -- The condition stands inside the call: PostgreSQL 18 evaluates a call with known arguments beforehand, whatever stands around it.
    SELECT @extschema@.idgen_timestamp(CASE WHEN d.epoch IS NOT NULL THEN id END, generator),
        @extschema@.idgen_machine(id, generator), @extschema@.idgen_backend(id, generator), @extschema@.idgen_sequence(id, generator)
    FROM @extschema@.idgen_definition(generator) d;
END;
COMMENT ON FUNCTION idgen_decode(bigint, regclass) IS
'all that an id of the generator says';

CREATE FUNCTION idgen_count(generator regclass) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_count_wrapper';
COMMENT ON FUNCTION idgen_count(regclass) IS
'how many values of the counter were taken from its sequence, in whole blocks; null if it is no counter, or locked, or for who may neither use it nor monitor the server';

CREATE FUNCTION idgen_repeats_until(generator regclass) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_repeats_until_wrapper';
COMMENT ON FUNCTION idgen_repeats_until(regclass) IS
'for idgen_doctor(): up to which value a counter that was set back repeats what this server gave since its start; null if it does not, or as idgen_count()';

CREATE FUNCTION idgen_generators(
    OUT generator regclass,
    OUT definition text, -- the fields from the highest bits down, epoch and tick in microseconds
    OUT epoch timestamptz, -- where its time begins, null for a counter
    OUT ends timestamptz, -- when its timestamps run out, null for a counter or past the end of timestamptz
    OUT tick interval, -- how long one timestamp lasts
    OUT per_second double precision, -- how many ids a second each server can give out, sustained; null for a counter
    OUT max_id bigint, -- the largest id that it can give out
    OUT flush_every bigint, -- of a counter: how many values are made durable at once
    OUT used double precision -- the share of its timestamps or values that is used up; of a counter only for roles that may use it, and for pg_monitor
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.objoid::regclass, d.definition, d.epoch, d.ends, d.tick, d.per_second, d.max_id, d.flush_every,
        CASE WHEN d.epoch IS NOT NULL
            THEN (extract(epoch FROM now()) - extract(epoch FROM d.epoch)) / (extract(epoch FROM d.ends) - extract(epoch FROM d.epoch))
            ELSE @extschema@.idgen_count(l.objoid) / (2::double precision ^ substring(d.definition FROM 'counter:(\d+)')::int)
        END
    -- Described by its label, since a generator may be dropped meanwhile.
    FROM pg_seclabel l, @extschema@.idgen_describe(l.label) d
    WHERE l.provider = 'idgen' AND l.classoid = 'pg_class'::regclass AND l.objsubid = 0;
$$;
COMMENT ON FUNCTION idgen_generators() IS 'the generators of this database';

-- Other forms.

CREATE FUNCTION idgen_to_text(id bigint) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_to_text_wrapper';
COMMENT ON FUNCTION idgen_to_text(bigint) IS
'the id in 13 characters that sort as the ids do: base32 as Crockford has it, nothing that is mistaken for something else';

CREATE FUNCTION idgen_from_text("text" text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_from_text_wrapper';
COMMENT ON FUNCTION idgen_from_text(text) IS
'the id of such a text; small letters, I and L for 1, O for 0, and hyphens anywhere are read as well';

CREATE FUNCTION idgen_to_uuid(id bigint) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_to_uuid_wrapper';
COMMENT ON FUNCTION idgen_to_uuid(bigint) IS
'the id as a UUID of version 8 that sorts as the ids do, for columns and interfaces that want a UUID';

CREATE FUNCTION idgen_from_uuid(uuid uuid) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_from_uuid_wrapper';
COMMENT ON FUNCTION idgen_from_uuid(uuid) IS
'the id of which idgen_to_uuid() made the UUID; any other UUID is refused';

-- These functions depend on the key in the file that idgen.opaque_key_file names.

CREATE FUNCTION idgen_to_opaque(id bigint) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_to_opaque_wrapper';
COMMENT ON FUNCTION idgen_to_opaque(bigint) IS
'the id in 13 characters that show neither when it was made nor how many there are, for public URLs; obscurity, not encryption: whoever may call idgen_from_opaque() can read it, and it proves nothing';

CREATE FUNCTION idgen_from_opaque("text" text) RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_from_opaque_wrapper';
COMMENT ON FUNCTION idgen_from_opaque(text) IS
'the id of which idgen_to_opaque() made the text with the same key; of texts that it did not make about half are refused';

-- Moving tables to ids, and back.

CREATE FUNCTION idgen_columns(
    OUT relation regclass, OUT column_name name, OUT type regtype,
    OUT generator regclass -- null for the server's own
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.adrelid::regclass, a.attname, a.atttypid::regtype,
        (SELECT s.oid::regclass FROM pg_depend d, pg_class s
            WHERE d.classid = f.classid AND d.objid = f.objid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid AND s.relkind = 'S' LIMIT 1)
    FROM pg_depend f, pg_attrdef e, pg_attribute a
    WHERE f.classid = 'pg_attrdef'::regclass AND f.objid = e.oid AND f.refclassid = 'pg_proc'::regclass
        AND f.refobjid IN ('@extschema@.idgen_next()'::regprocedure, '@extschema@.idgen_next(regclass)'::regprocedure)
        AND a.attrelid = e.adrelid AND a.attnum = e.adnum;
$$;
COMMENT ON FUNCTION idgen_columns() IS
'the columns whose default is idgen_next(), each with its generator';

CREATE FUNCTION idgen_suspects(VARIADIC relations regclass[],
    OUT relation regclass, -- the table whose keys it may hold, null: any table
    OUT suspect text, OUT type text, OUT remedy text) RETURNS SETOF record
LANGUAGE sql STABLE STRICT ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
    WITH named AS MATERIALIZED (
        -- The name by which a column refers to a table, without _id.
        SELECT c.oid, c.relname, c.relnamespace, regexp_replace(replace(lower(c.relname), '_', ''), '(?<=.)(ies|s)$', '') AS stem
        FROM pg_class c, pg_namespace n
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.oid = c.relnamespace
            AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_t'
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ), key AS MATERIALIZED (
        SELECT k.oid, k.stem, lower(k.relname) AS table_name, a.attname,
            '\m' || regexp_replace(k.relname, '([^a-zA-Z0-9_])', '\\\1', 'g') || '\M' AS table_word,
            '\m' || regexp_replace(a.attname, '([^a-zA-Z0-9_])', '\\\1', 'g') || '\M' AS key_word
        FROM named k LEFT JOIN pg_index x ON x.indrelid = k.oid AND x.indisprimary
            LEFT JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum = x.indkey[0]
        WHERE k.oid = ANY (relations)
    ), narrow(type) AS (
        VALUES ('integer'::regtype), ('smallint'), ('integer[]'), ('smallint[]')
    ), referring AS MATERIALIZED (
        SELECT a.attrelid, a.attname, a.atttypid::regtype::text AS type, c.relnamespace, a.attname ~* 'ids?$' AS is_id,
            regexp_replace(lower(replace(a.attname, '_', '')), '(y|s|ies)?(ids?)?$', '') AS stem
        FROM named c, pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.atttypid IN (TABLE narrow)
            AND (a.attname ~* 'ids?$' OR a.atttypid IN ('integer[]'::regtype, 'smallint[]'::regtype))
            AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = a.attrelid AND a.attnum = ANY (f.conkey))
            AND NOT (a.attrelid = ANY (relations) AND EXISTS (SELECT FROM pg_index x
                WHERE x.indrelid = a.attrelid AND x.indisprimary AND a.attnum = x.indkey[0]))
    ), bodies AS MATERIALIZED (
        SELECT p.oid, array_to_string(types.narrow, ', ') AS types, b.body
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN pg_namespace n ON n.oid = p.pronamespace,
            LATERAL (SELECT array_agg(DISTINCT t::regtype::text) AS narrow FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) t
                WHERE t IN (TABLE narrow)) types,
            LATERAL (SELECT coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS body) b
        WHERE p.prokind IN ('f', 'p') AND l.lanname IN ('sql', 'plpgsql') AND types.narrow IS NOT NULL
            AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_t'
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    ), pairs AS (
        -- The tables that a function names. One name after another would take as long as there are tables times functions.
        SELECT k.oid AS relation, w.oid AS function
        FROM key k JOIN (SELECT b.oid, regexp_split_to_table(lower(b.body), '\W+') AS word FROM bodies b) w ON w.word = k.table_name
        UNION
        SELECT k.oid, b.oid FROM key k JOIN bodies b ON k.table_name ~ '\W' AND b.body ~* k.table_word
    ), suspects AS (
        -- order_id or orderid refers to orders; an array is also called order_ids or orders.
        SELECT k.oid, r.attrelid, r.attname, r.type FROM referring r JOIN key k ON k.stem = r.stem
        UNION ALL
        -- what_id may refer to any table if no table has that name, or if what_type stands beside it.
        SELECT NULL, r.attrelid, r.attname, r.type
        FROM referring r LEFT JOIN (SELECT DISTINCT n.relnamespace, n.stem FROM named n) o ON o.relnamespace = r.relnamespace AND o.stem = r.stem
        WHERE r.is_id AND EXISTS (SELECT FROM key) AND r.stem NOT IN (SELECT k.stem FROM key k)
            AND (o.stem IS NULL AND r.attname ~ '_ids?$' OR r.attname ~ '_id$' AND EXISTS (SELECT FROM pg_attribute t
                WHERE t.attrelid = r.attrelid AND t.attname = regexp_replace(r.attname, '_id$', '_type') AND NOT t.attisdropped))
    )
    SELECT s.oid::regclass, format('%s.%I', s.attrelid::regclass, s.attname), s.type, format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint%s',
        s.attrelid::regclass, s.attname, CASE WHEN s.type LIKE '%[]' THEN '[]' END)
    FROM suspects s
    UNION ALL
    -- Functions that take or return a type that is too narrow, and name the table and its key.
    SELECT k.oid::regclass, 'function ' || p.oid::regprocedure, p.types, 'make it anew with bigint'
    FROM pairs JOIN key k ON k.oid = relation JOIN bodies p ON p.oid = function
    WHERE p.body ~* k.key_word
    ORDER BY 2, 1;
$$;
COMMENT ON FUNCTION idgen_suspects(regclass[]) IS
'what ids do not fit in and what may refer to the tables without a foreign key: columns called after one, or after no table, or beside a type, and functions in SQL and PL/pgSQL that name the table and its key';

-- Settings of the functions below: what their statements set ends with them.

CREATE FUNCTION idgen_adopt(relation regclass, column_name name, generator regclass DEFAULT NULL,
    dry_run boolean DEFAULT false, rewrite boolean DEFAULT false,
    lock_timeout interval DEFAULT '500 ms', along regclass[] DEFAULT '{}') RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
SET row_security = on
AS $$
#variable_conflict use_column
DECLARE
    next text := '@extschema@.idgen_next(' || coalesce(quote_literal(generator::text) || '::regclass', '') || ')';
    key pg_attribute;
    tree oid[];
    narrow text[];
    narrow_size bigint;
    widening text[];
    recompiling text[];
    outgrown text[];
    blocking text[];
    dropping text[];
    restoring text[];
    identities text[];
    statements text[];
    statement text;
    found record;
BEGIN
    IF relation IS NULL OR column_name IS NULL OR dry_run IS NULL OR rewrite IS NULL OR lock_timeout IS NULL OR along IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = format('argument "%s" of idgen_adopt() is null', CASE WHEN relation IS NULL THEN 'relation' WHEN column_name IS NULL THEN 'column_name' WHEN dry_run IS NULL THEN 'dry_run' WHEN rewrite IS NULL THEN 'rewrite' WHEN lock_timeout IS NULL THEN 'lock_timeout' ELSE 'along' END);
    END IF;
    SELECT a.* INTO key FROM pg_attribute a
    WHERE a.attrelid = idgen_adopt.relation AND a.attname = idgen_adopt.column_name AND a.attnum > 0;
    IF key IS NULL THEN
        RAISE undefined_column USING
            MESSAGE = format('column "%s" of table "%s" does not exist', column_name, relation),
            HINT = 'The second argument is the name of the key''s column.';
    ELSIF key.attinhcount > 0 THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('column "%s" of table "%s" is inherited', column_name, relation),
            HINT = (SELECT format('Call this for "%s": its partitions and children are included.', i.inhparent::regclass)
                FROM pg_inherits i WHERE i.inhrelid = idgen_adopt.relation ORDER BY i.inhseqno LIMIT 1);
    ELSIF key.atttypid NOT IN ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype)
        -- A domain over bigint counts as bigint.
        AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = key.atttypid AND t.typtype = 'd' AND t.typbasetype = 'bigint'::regtype)
    THEN
        RAISE datatype_mismatch USING
            MESSAGE = format('column "%s" of table "%s" is of type %s',
                column_name, relation, format_type(key.atttypid, key.atttypmod)),
            HINT = 'Only a column of an integer type can have ids of idgen.';
    END IF;
    PERFORM @extschema@.idgen_definition(generator);

    -- Ids are held by the key, in partitions and children too, and by every column that refers to it, however far. Columns for the keys of
    -- tables that come along are widened in the same pass, if their table must be rewritten anyway.
    WITH RECURSIVE holder(relation, name, is_key, is_along) AS (
        (
            SELECT key.attrelid, key.attname, true, false
            UNION ALL
            SELECT x.indrelid, a.attname, true, true FROM pg_index x, pg_attribute a
            WHERE rewrite AND x.indrelid = ANY (along) AND x.indisprimary AND a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        )
        UNION
            SELECT n.*, h.is_along FROM holder h, LATERAL (
                SELECT i.inhrelid, h.name, h.is_key FROM pg_inherits i WHERE i.inhparent = h.relation
                UNION ALL
                SELECT c.conrelid, referring.attname, false
                FROM pg_constraint c, unnest(c.conkey, c.confkey) AS pair(referring, referred),
                    pg_attribute referring, pg_attribute referred
                WHERE c.contype = 'f' AND c.confrelid = h.relation AND referred.attname = h.name
                    AND referred.attrelid = c.confrelid AND referred.attnum = pair.referred
                    AND referring.attrelid = c.conrelid AND referring.attnum = pair.referring) n
    ), all_narrow AS (
        SELECT h.relation, a.attname, a.attnum, a.attinhcount = 0 AS is_own, bool_and(h.is_along) AS is_along
        FROM holder h, pg_attribute a
        WHERE a.attrelid = h.relation AND a.attname = h.name AND a.atttypid IN ('integer'::regtype, 'smallint'::regtype)
        GROUP BY 1, 2, 3, 4
    ), in_use AS (
        -- Objects under which PostgreSQL does not change a column's type.
        SELECT n.relation, n.attname, n.is_along, d.classid, d.objid
        FROM all_narrow n JOIN pg_depend d
            ON d.refclassid = 'pg_class'::regclass AND d.refobjid = n.relation AND d.refobjsubid = n.attnum
        WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass, 'pg_publication_rel'::regclass)
            OR d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger t WHERE t.oid = d.objid AND NOT t.tgisinternal)
            OR d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef e, pg_attribute g
                WHERE e.oid = d.objid AND g.attrelid = e.adrelid AND g.attnum = e.adnum AND g.attgenerated <> '')
        UNION ALL
        -- A column of a partition key depends on its own table.
        SELECT n.relation, n.attname, n.is_along, d.refclassid, d.refobjid
        FROM all_narrow n JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = n.relation AND d.objsubid = n.attnum
            AND d.refclassid = d.classid AND d.refobjid = d.objid AND d.refobjsubid = 0
    ), restorable(classid, objid, drop, restore) AS (
        -- Objects that can be made again exactly as they were: a trigger is dropped and made with its clones in partitions.
        SELECT 'pg_trigger'::regclass::oid, coalesce(clone.oid, t.oid), format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass),
            ARRAY[pg_get_triggerdef(t.oid),
                format('ALTER TABLE %s ' || CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' END
                    || ' TRIGGER %I', t.tgrelid::regclass, t.tgname),
                format('COMMENT ON TRIGGER %I ON %s IS ', t.tgname, t.tgrelid::regclass) || quote_literal(obj_description(t.oid, 'pg_trigger'))]
        FROM pg_trigger t LEFT JOIN pg_partition_tree(t.tgrelid) p ON true
            LEFT JOIN pg_trigger clone ON clone.tgrelid = p.relid AND clone.tgname = t.tgname
        WHERE t.oid IN (SELECT objid FROM in_use) AND t.tgparentid = 0
            AND NOT EXISTS (SELECT FROM pg_partition_tree(t.tgrelid) q, pg_trigger o
                WHERE o.tgrelid = q.relid AND o.tgname = t.tgname AND o.tgenabled <> t.tgenabled)
            AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_trigger'::regclass AND x.objid = t.oid AND x.deptype = 'x')
        UNION ALL
        SELECT 'pg_policy'::regclass, p.oid, format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass),
            ARRAY[format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, p.polrelid::regclass,
                    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                    (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::regrole::text END, ', ') FROM unnest(p.polroles) r))
                || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
                || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''),
                format('COMMENT ON POLICY %I ON %s IS ', p.polname, p.polrelid::regclass) || quote_literal(obj_description(p.oid, 'pg_policy'))]
        FROM pg_policy p WHERE p.oid IN (SELECT objid FROM in_use)
    ), fixed AS (
        SELECT u.* FROM in_use u WHERE (u.classid, u.objid) NOT IN (SELECT r.classid, r.objid FROM restorable r)
    ), part AS (
        -- The tables that are altered with a table: itself, its partitions and its children.
        SELECT n.relation, n.relation AS part FROM all_narrow n
        UNION
        SELECT n.relation, p.relid FROM all_narrow n, pg_partition_tree(n.relation) p WHERE n.is_own
        UNION
        SELECT n.relation, i.inhrelid FROM all_narrow n, pg_inherits i WHERE n.is_own AND i.inhparent = n.relation
    ), narrow AS (
        SELECT * FROM all_narrow n WHERE NOT n.is_along
        UNION ALL
        SELECT * FROM all_narrow n
        WHERE n.is_along AND n.is_own AND n.relation IN (SELECT o.relation FROM all_narrow o WHERE o.is_own AND NOT o.is_along)
            AND NOT EXISTS (SELECT FROM part p, fixed u WHERE p.relation = n.relation AND u.relation = p.part AND u.attname = n.attname)
    ), restored AS (
        SELECT DISTINCT r.drop, r.restore
        FROM restorable r JOIN in_use u USING (classid, objid) JOIN part p ON p.part = u.relation
            JOIN narrow n ON n.relation = p.relation AND n.attname = u.attname
    ), widening AS (
        SELECT relation, format('ALTER TABLE %s %s', relation::regclass,
            string_agg(format('ALTER COLUMN %I TYPE bigint', attname), ', ' ORDER BY attname)) AS statement
        FROM narrow WHERE is_own GROUP BY relation
    )
    SELECT (SELECT array_agg(DISTINCT relation) FROM holder WHERE is_key AND NOT is_along),
        (SELECT array_agg(relation::regclass::text ORDER BY relation) FROM widening),
        (SELECT sum(pg_total_relation_size(relation)) FROM (SELECT DISTINCT relation FROM narrow) n),
        (SELECT array_agg(statement ORDER BY relation) FROM widening),
        -- Sessions have compiled the triggers in PL/pgSQL for the old type; a function that is altered is compiled anew.
        (SELECT array_agg(DISTINCT format('ALTER FUNCTION %s COST %s', p.oid::regprocedure, p.procost))
            FROM narrow n, pg_trigger t, pg_proc p, pg_language l
            WHERE t.tgrelid = n.relation AND NOT t.tgisinternal AND p.oid = t.tgfoid
                AND l.oid = p.prolang AND l.lanname = 'plpgsql' AND pg_has_role(p.proowner, 'USAGE')),
        (SELECT array_agg(format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', c.oid::regclass, h.name) ORDER BY c.oid)
            FROM holder h, pg_class c, pg_attribute a
            WHERE h.is_key AND NOT h.is_along AND c.oid = h.relation AND NOT c.relispartition
                AND a.attrelid = c.oid AND a.attname = h.name AND a.attidentity <> ''),
        (SELECT array_agg(DISTINCT CASE WHEN objid = relation THEN 'partition key of ' ELSE '' END || pg_describe_object(classid, objid, 0))
            FROM fixed WHERE NOT is_along),
        (SELECT array_agg(r.drop ORDER BY r.drop) FROM restored r),
        (SELECT array_agg(s.statement ORDER BY r.drop, s.number) FROM restored r, unnest(r.restore) WITH ORDINALITY s(statement, number)
            WHERE s.statement IS NOT NULL)
    INTO tree, narrow, narrow_size, widening, recompiling, identities, blocking, dropping, restoring;

    IF narrow IS NOT NULL AND NOT rewrite THEN
        RAISE datatype_mismatch USING
            MESSAGE = format('column "%s" of table "%s", or one that refers to it, is too narrow for ids', column_name, relation),
            DETAIL = format('To become bigint, %s (%s with partitions and indexes) must be rewritten, '
                'indexes and foreign keys be made anew, and nobody can read or write meanwhile.',
                array_to_string(narrow, ', '), pg_size_pretty(narrow_size)),
            HINT = 'Say rewrite => true to have it done.'
                || coalesce(' Before that, what uses the columns must go: ' || array_to_string(blocking, ', ') || '.', '');
    ELSIF blocking IS NOT NULL THEN
        RAISE dependent_objects_still_exist USING
            MESSAGE = format('column "%s" of table "%s", or one that refers to it, cannot become bigint while other objects use it',
                column_name, relation),
            DETAIL = format('These do: %s.', array_to_string(blocking, ', ')),
            HINT = 'Drop them, call this, and make them again, as pg_dump shows them; a table with such a partition key must be made anew.';
    END IF;

    -- The sequence that the key keeps: its numbers would end where those of the old type end.
    outgrown := ARRAY(SELECT format('ALTER SEQUENCE %s AS bigint', s.seqrelid::regclass)
        FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
            AND d.refobjid = key.attrelid AND d.refobjsubid = key.attnum AND s.seqtypid <> 'bigint'::regtype AND rewrite
        ORDER BY s.seqrelid);
    FOR found IN
        SELECT s.oid::regclass AS sequence, own.deptype = 'i' AS is_identity, (
            SELECT string_agg(format('%s.%I', e.adrelid::regclass, a.attname), ', ' ORDER BY e.adrelid)
            FROM pg_depend d, pg_attrdef e, pg_attribute a
            WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
                AND a.attrelid = e.adrelid AND a.attnum = e.adnum
                AND NOT (e.adrelid = ANY (tree) AND a.attname = key.attname)) AS users
        FROM pg_class s LEFT JOIN pg_depend own ON own.classid = 'pg_class'::regclass AND own.objid = s.oid
            AND own.refclassid = 'pg_class'::regclass AND own.refobjid = key.attrelid AND own.refobjsubid = key.attnum
        WHERE s.relkind = 'S' AND (own.objid IS NOT NULL OR EXISTS (
            SELECT FROM pg_attrdef e, pg_depend d
            WHERE e.adrelid = key.attrelid AND e.adnum = key.attnum
                AND d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid))
    LOOP
        IF found.is_identity AND found.users IS NOT NULL THEN
            RAISE dependent_objects_still_exist USING
                MESSAGE = format('sequence "%s" of column "%s" is also used elsewhere', found.sequence, column_name),
                DETAIL = format('It would be dropped with the identity, and is in the default of %s.', found.users),
                HINT = 'Give these another default first.';
        ELSIF found.users IS NOT NULL THEN
            RAISE NOTICE USING
                MESSAGE = format('sequence "%s" stays as it is', found.sequence),
                DETAIL = 'It is also in the default of ' || found.users || '.';
        END IF;
    END LOOP;

    FOR found IN
        SELECT DISTINCT coalesce(r.rolname, 'public') AS role
        FROM pg_class c, aclexplode(c.relacl) p LEFT JOIN pg_roles r ON r.oid = p.grantee
        WHERE c.oid = idgen_adopt.relation AND p.privilege_type = 'INSERT'
            AND NOT has_sequence_privilege(coalesce(r.rolname, 'public'), generator, 'USAGE, UPDATE')
    LOOP
        RAISE WARNING USING
            MESSAGE = format('role "%s" may insert into "%s" but not use "%s"', found.role, relation, generator),
            HINT = format('GRANT USAGE ON SEQUENCE %s TO %I;', generator, found.role);
    END LOOP;

    IF EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = key.attrelid AND p.partstrat = 'r'
            AND p.partattrs[0] = key.attnum AND p.partdefid = 0) THEN
        RAISE WARNING USING
            MESSAGE = format('table "%s" has no default partition, and new ids may be above all partitions', relation),
            HINT = 'idgen_create_partitions() makes partitions for them.';
    END IF;

    FOR found IN
        SELECT t.tgname AS trigger FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        -- Before, insert, for each row.
        WHERE t.tgrelid = key.attrelid AND NOT t.tgisinternal AND t.tgtype & 7 = 7
            AND p.prosrc ~* ('\mnew\.' || regexp_replace(key.attname, '([^a-zA-Z0-9_])', '\\\1', 'g') || '\s*:?=')
    LOOP
        RAISE WARNING USING
            MESSAGE = format('trigger "%s" of table "%s" seems to fill the key itself', found.trigger, relation),
            HINT = 'Then its values go on to be the keys, and not ids of idgen: change or drop it.';
    END LOOP;
    -- idgen_adopt_all() says this once for all its tables.
    FOR found IN SELECT string_agg(format('%s (%s)', s.suspect, s.type), ', ') AS suspects
        FROM @extschema@.idgen_suspects(idgen_adopt.relation) s WHERE along = '{}' HAVING count(*) > 0
    LOOP
        RAISE WARNING USING
            MESSAGE = format('what ids do not fit in may refer to "%s" without a foreign key', relation),
            DETAIL = format('These may: %s.', found.suspects),
            HINT = 'If they do, make them bigint first: they cannot hold the new keys.';
    END LOOP;
    IF pg_get_serial_sequence(relation::text, column_name) IS NOT NULL THEN
        RAISE NOTICE USING
            MESSAGE = format('lastval(), currval() and pg_get_serial_sequence() tell nothing of new keys of "%s"', relation),
            HINT = 'INSERT ... RETURNING does; and setval() of what was its sequence, as fixtures reset it, changes nothing.';
    END IF;
    statements := ARRAY['BEGIN',
            format('SET LOCAL lock_timeout = %L', round(extract(epoch FROM lock_timeout) * 1000) || 'ms'),
            'SET LOCAL row_security = off',
            format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE',
                array_to_string(relation::text || array_remove(narrow, relation::text), ', ')),
            format('DO %L', format('
DECLARE
    highest bigint := (SELECT max(%I) FROM %s);
    first bigint := %s;
BEGIN
    IF highest >= first THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = %L,
            DETAIL = ''The largest is '' || highest || '', the first new id would be '' || first || ''.'',
            HINT = ''Use a generator whose ids begin above it; a counter can be set there by ALTER SEQUENCE RESTART.'';
    END IF;
END', column_name, relation, next, format('column "%s" of table "%s" has values above the first new id', column_name, relation)))]
        || dropping
        || identities
        || widening
        || outgrown
        || recompiling
        || restoring
        || ARRAY[format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', relation, column_name, next), 'COMMIT'];
    FOREACH statement IN ARRAY statements LOOP
        IF NOT dry_run AND statement NOT IN ('BEGIN', 'COMMIT') THEN
            EXECUTE statement;
        END IF;
        RETURN NEXT statement || ';';
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_adopt(regclass, name, regclass, boolean, boolean, interval, regclass[]) IS
'gives the key column ids of idgen from now on, in its partitions and children too; returns the statements, which dry_run only shows; rewrite allows to make integer columns bigint, in a table that needs it also those for the keys of the tables that come along';

CREATE FUNCTION idgen_adopt_all(schema name, generator regclass DEFAULT NULL,
    dry_run boolean DEFAULT false, rewrite boolean DEFAULT false, lock_timeout interval DEFAULT '500 ms',
    OUT relation regclass, OUT column_name name, OUT statements text[],
    OUT refusal text -- why the column was left as it is, null if it was not
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    number integer := 0;
    keys regclass[];
    -- The statements shown so far: a dry run changes nothing, so the next table would show some again.
    shown text[] := '{}';
    adopted regclass[];
    suspect record;
    detail text;
    hint text;
BEGIN
    IF schema IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = format('argument "%s" of idgen_adopt_all() is null', 'schema');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = idgen_adopt_all.schema) THEN
        RAISE invalid_schema_name USING
            MESSAGE = format('schema "%s" does not exist', schema),
            HINT = 'Give the name of the schema with the tables.';
    END IF;
    -- Primary keys that begin with an integer that a sequence fills; for partitions and children the key of their parent.
    FOR relation, column_name, keys IN
        SELECT x.indrelid::regclass, a.attname, array_agg(x.indrelid) OVER ()
        FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        WHERE n.nspname = idgen_adopt_all.schema AND x.indisprimary AND a.attinhcount = 0
            AND a.atttypid IN ('bigint'::regtype, 'integer'::regtype, 'smallint'::regtype)
            AND (a.attidentity <> '' OR EXISTS (SELECT FROM pg_attrdef e, pg_depend d, pg_class s
                WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum AND d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid AND s.relkind = 'S'))
            AND NOT EXISTS (SELECT FROM @extschema@.idgen_columns() i WHERE i.relation = a.attrelid AND i.column_name = a.attname)
        ORDER BY x.indrelid::regclass::text
    LOOP
        number := number + 1;
        RAISE NOTICE '% of %: %', number, cardinality(keys), relation;
        BEGIN
            refusal := NULL;
            statements := ARRAY(SELECT a FROM @extschema@.idgen_adopt(idgen_adopt_all.relation, idgen_adopt_all.column_name,
                idgen_adopt_all.generator, idgen_adopt_all.dry_run, idgen_adopt_all.rewrite, idgen_adopt_all.lock_timeout, keys) a
                WHERE NOT (dry_run AND a = ANY (shown)) OR a ~ '^(BEGIN|SET|LOCK|COMMIT)');
            shown := shown || statements;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            statements := NULL;
            refusal := concat_ws(E'\n', SQLERRM, nullif(detail, ''), nullif(hint, ''));
        END;
        adopted := adopted || CASE WHEN refusal IS NULL THEN relation END;
        RETURN NEXT;
    END LOOP;
    FOR suspect IN SELECT DISTINCT s.suspect AS name, s.type FROM @extschema@.idgen_suspects(VARIADIC array_remove(adopted, NULL)) s ORDER BY 1 LOOP
        RAISE WARNING USING
            MESSAGE = format('%s (%s) may refer to one of the tables without a foreign key', suspect.name, suspect.type),
            HINT = 'If it does, make it bigint first: it cannot hold the new keys.';
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_adopt_all(name, regclass, boolean, boolean, interval) IS
'idgen_adopt() for every table of the schema whose key a sequence fills, each with its statements or with why it was left as it is: one refusal stops none of the others';

CREATE FUNCTION idgen_abandon(relation regclass, column_name name, "identity" text DEFAULT NULL,
    dry_run boolean DEFAULT false, lock_timeout interval DEFAULT '500 ms') RETURNS SETOF text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = 0
AS $$
#variable_conflict use_column
DECLARE
    key record;
    sequence regclass;
    restart text;
    statements text[];
    statement text;
BEGIN
    IF relation IS NULL OR column_name IS NULL OR dry_run IS NULL OR lock_timeout IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = format('argument "%s" of idgen_abandon() is null', CASE WHEN relation IS NULL THEN 'relation' WHEN column_name IS NULL THEN 'column_name' WHEN dry_run IS NULL THEN 'dry_run' WHEN lock_timeout IS NULL THEN 'lock_timeout' END);
    END IF;
    SELECT a.attrelid, a.attnum, a.attinhcount, c.generator, EXISTS (
        SELECT FROM pg_inherits i, pg_class child WHERE i.inhparent = a.attrelid AND child.oid = i.inhrelid
            AND NOT child.relispartition) AS has_children
    INTO key FROM @extschema@.idgen_columns() c, pg_attribute a
    WHERE c.relation = idgen_abandon.relation AND c.column_name = idgen_abandon.column_name
        AND a.attrelid = c.relation AND a.attname = c.column_name;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('column "%s" of table "%s" has no ids of idgen', column_name, relation),
            HINT = 'SELECT * FROM idgen_columns() shows those that do.';
    ELSIF key.attinhcount > 0 THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('column "%s" of table "%s" is inherited', column_name, relation),
            HINT = (SELECT format('Call this for "%s": its partitions and children are included.', i.inhparent::regclass)
                FROM pg_inherits i WHERE i.inhrelid = key.attrelid ORDER BY i.inhseqno LIMIT 1);
    ELSIF upper("identity") NOT IN ('ALWAYS', 'BY DEFAULT') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('"%s" is no kind of identity column', "identity"),
            HINT = 'It is "always" or "by default".';
    END IF;
    IF "identity" IS NULL THEN
        SELECT d.objid INTO sequence FROM pg_depend d, pg_class s
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = key.attrelid AND d.refobjsubid = key.attnum AND d.deptype = 'a'
            AND s.oid = d.objid AND s.relkind = 'S'
            AND NOT EXISTS (SELECT FROM pg_seclabel l WHERE l.objoid = s.oid AND l.classoid = d.classid AND l.provider = 'idgen')
        ORDER BY d.objid LIMIT 1;
        IF sequence IS NULL AND key.has_children THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = format('table "%s" has children, which an identity column would leave without a default', relation),
                HINT = 'Make a sequence for it first: CREATE SEQUENCE ... OWNED BY its column.';
        END IF;
    END IF;

    IF sequence IS NOT NULL THEN
        statements := ARRAY[format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT nextval(%L::regclass)', relation, column_name, sequence)];
        restart := format('ALTER SEQUENCE %s AS bigint NO MAXVALUE RESTART WITH ', sequence);
    ELSE
        statements := ARRAY[
            format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', relation, column_name),
            format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY',
                relation, column_name, coalesce(upper("identity"), 'BY DEFAULT'))];
        restart := format('ALTER TABLE %s ALTER COLUMN %I RESTART WITH ', relation, column_name);
    END IF;
    -- Above every id that was fetched, inserted or not, and also above those that are being fetched now.
    statements := ARRAY['BEGIN',
            format('SET LOCAL lock_timeout = %L', round(extract(epoch FROM lock_timeout) * 1000) || 'ms'),
            'SET LOCAL row_security = off',
            format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation)]
        || statements
        || ARRAY[format('DO %L', format('
BEGIN
    EXECUTE %L || greatest(%s.idgen_next(%s), (SELECT max(%I) FROM %s)) + (1::bigint << 32);
END', restart, '@extschema@', quote_literal(key.generator::text) || '::regclass', column_name, relation)), 'COMMIT'];
    FOREACH statement IN ARRAY statements LOOP
        IF NOT dry_run AND statement NOT IN ('BEGIN', 'COMMIT') THEN
            EXECUTE statement;
        END IF;
        RETURN NEXT statement || ';';
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_abandon(regclass, name, text, boolean, interval) IS
'gives the key column numbers of a sequence again, above every id of idgen: of the sequence that it owns, else as an identity column, always or by default; returns the statements, which dry_run only shows';

CREATE FUNCTION idgen_abandon_all(schema name, "identity" text DEFAULT NULL,
    dry_run boolean DEFAULT false, lock_timeout interval DEFAULT '500 ms',
    OUT relation regclass, OUT column_name name, OUT statements text[],
    OUT refusal text -- why the column was left as it is, null if it was not
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    detail text;
    hint text;
BEGIN
    IF schema IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = format('argument "%s" of idgen_abandon_all() is null', 'schema');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = idgen_abandon_all.schema) THEN
        RAISE invalid_schema_name USING
            MESSAGE = format('schema "%s" does not exist', schema),
            HINT = 'Give the name of the schema with the tables.';
    END IF;
    FOR relation, column_name IN
        SELECT i.relation, i.column_name
        FROM @extschema@.idgen_columns() i JOIN pg_class c ON c.oid = i.relation JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = i.relation AND a.attname = i.column_name
        WHERE n.nspname = idgen_abandon_all.schema AND a.attinhcount = 0
        ORDER BY i.relation::text, i.column_name
    LOOP
        BEGIN
            refusal := NULL;
            statements := ARRAY(SELECT a FROM @extschema@.idgen_abandon(idgen_abandon_all.relation, idgen_abandon_all.column_name,
                idgen_abandon_all."identity", idgen_abandon_all.dry_run, idgen_abandon_all.lock_timeout) a);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            statements := NULL;
            refusal := concat_ws(E'\n', SQLERRM, nullif(detail, ''), nullif(hint, ''));
        END;
        RETURN NEXT;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_abandon_all(name, text, boolean, interval) IS
'idgen_abandon() for every column of the schema whose default is idgen_next(), each with its statements or with why it was left as it is';

-- Times of any type are taken as they are, so a date without a zone does not become midnight of the session's zone.

CREATE FUNCTION idgen_create_partitions(relation regclass, since anycompatible, until anycompatible, every interval)
    RETURNS SETOF regclass
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
-- Names and borders are in UTC, whatever the session's zone.
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    generator regclass;
    parent name;
    owner regrole;
    schema regnamespace;
    since timestamptz := since::text::timestamptz;
    until timestamptz := until::text::timestamptz;
    lower timestamptz := since;
    upper timestamptz;
    first bigint;
    beyond bigint;
    bound text;
    suffix text;
    partition text;
BEGIN
    SELECT c.relname, c.relnamespace::regnamespace, c.relowner, i.generator INTO parent, schema, owner, generator
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        LEFT JOIN @extschema@.idgen_columns() i ON i.relation = c.oid AND i.column_name = a.attname
    WHERE c.oid = idgen_create_partitions.relation AND p.partstrat = 'r' AND p.partnatts = 1
        AND a.atttypid = 'bigint'::regtype;
    IF NOT FOUND THEN
        RAISE wrong_object_type USING
            MESSAGE = format('table "%s" is not partitioned by range of one bigint column', relation),
            HINT = 'Create it with PARTITION BY RANGE (id).';
    ELSIF NOT isfinite(until) OR since >= until OR since + every <= since THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('there are no partitions from %s to %s every %s', since, until, every),
            HINT = 'The second time must be after the first one, and the interval longer than nothing.';
    END IF;
    suffix := CASE WHEN (since, since + every) = (date_trunc('day', since), date_trunc('day', since + every))
        THEN '"_p"YYYYMMDD' ELSE '"_p"YYYYMMDD_HH24MISS' END;
    FOR i IN 1 .. 2147483647 LOOP
        EXIT WHEN lower >= until;
        upper := since + i * every;
        IF generator IS NULL THEN
            first := @extschema@.idgen_min_id(lower);
            beyond := @extschema@.idgen_min_id(upper);
        ELSE
            first := @extschema@.idgen_min_id(lower, generator);
            beyond := @extschema@.idgen_min_id(upper, generator);
        END IF;
        IF first >= beyond THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('no id of table "%s" is of a time from %s to %s', relation, lower, upper),
                HINT = 'Partitions lie within the time of the layout, and none is shorter than one of its ticks: see idgen_generators().';
        END IF;
        bound := format('FROM (%L) TO (%L)', first, beyond);
        IF octet_length(parent || to_char(lower, suffix)) > current_setting('max_identifier_length')::int THEN
            RAISE name_too_long USING
                MESSAGE = format('the name "%s" of a partition would be too long', parent || to_char(lower, suffix)),
                HINT = 'Give the table a shorter name, or create partitions by hand: idgen_min_id() has their bounds.';
        END IF;
        partition := format('%s.%I', schema, parent || to_char(lower, suffix));
        IF NOT EXISTS (SELECT FROM pg_inherits h, pg_class c
            WHERE h.inhparent = idgen_create_partitions.relation AND c.oid = h.inhrelid
                AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES ' || bound)
        THEN
            -- Made first and then attached, so that readers and writers of the table are not locked out.
            EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING COMMENTS EXCLUDING IDENTITY EXCLUDING STATISTICS)',
                partition, relation);
            -- A partition has the owner of its table, whoever calls this.
            IF owner <> current_user::regrole THEN
                EXECUTE format('ALTER TABLE %s OWNER TO %s', partition, owner);
            END IF;
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES %s', relation, partition, bound);
            RETURN NEXT partition;
        END IF;
        lower := upper;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_create_partitions(regclass, anycompatible, anycompatible, interval) IS
'makes the partitions of a table, partitioned by range of an id, for these times, and returns those that were not there yet; a time without a zone is UTC''s';

CREATE FUNCTION idgen_drop_partitions(relation regclass, before anycompatible, detach boolean DEFAULT false) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    before timestamptz := before::text::timestamptz;
    bound bigint;
    old record;
BEGIN
    SELECT CASE WHEN i.generator IS NULL THEN @extschema@.idgen_min_id(before) ELSE @extschema@.idgen_min_id(before, i.generator) END INTO bound
    FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        LEFT JOIN @extschema@.idgen_columns() i ON i.relation = p.partrelid AND i.column_name = a.attname
    WHERE p.partrelid = idgen_drop_partitions.relation AND p.partstrat = 'r' AND p.partnatts = 1 AND a.atttypid = 'bigint'::regtype;
    IF NOT FOUND THEN
        RAISE wrong_object_type USING
            MESSAGE = format('table "%s" is not partitioned by range of one bigint column', relation),
            HINT = 'It drops what idgen_create_partitions() makes.';
    END IF;
    FOR old IN
        SELECT c.oid::regclass::text AS partition
        FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = idgen_drop_partitions.relation
            AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(\d+)''\)')::bigint <= bound
        ORDER BY substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(\d+)''\)')::bigint
    LOOP
        EXECUTE CASE WHEN detach THEN format('ALTER TABLE %s DETACH PARTITION %s', relation, old.partition)
            ELSE format('DROP TABLE %s', old.partition) END;
        RETURN NEXT old.partition;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_drop_partitions(regclass, anycompatible, boolean) IS
'drops, or detaches, the partitions of a table, partitioned by range of an id, all of whose ids are older than that, and returns their names';

-- Watching.

CREATE FUNCTION idgen_status(
    OUT version text, -- of the library; older SQL is brought up by ALTER EXTENSION idgen UPDATE
    OUT machine_id integer, -- in force: the setting, or what an authority granted; null if there is none
    OUT obstacle text, -- why idgen_next() gives no id, null if it does
    OUT stopped_since timestamptz, -- since when it gives no id
    OUT last_id bigint, -- the last id that was given out or skipped, null if none may be given, or if all come from the authority
    OUT last_timestamp timestamptz, -- the time in it
    OUT effective_clock timestamptz, -- the clock that ids are made of
    OUT clock_ahead interval, -- how far it, or the last id, is ahead of the wall clock; shrinks by a tenth of the time that passes
    OUT clock_ahead_seconds double precision,
    OUT clock_held interval, -- how far the wall clock leapt ahead without being followed; idgen_accept_clock() follows it
    OUT clock_held_seconds double precision,
    OUT clock_steps bigint, -- steps of the wall clock that were seen
    OUT last_clock_step timestamptz, -- when the last one was
    OUT horizon timestamptz, -- the durable promise: no id of a later time was ever given out
    OUT horizon_moves bigint, -- how often it was moved since the start, each time a small record of WAL and a flush
    OUT horizon_waits bigint, -- calls that had to wait for it; the first after an idle time does
    OUT loan_sleeps bigint, -- calls that slept because a burst had run idgen.max_borrow ahead of the clock
    OUT slept_seconds double precision, -- how long they slept in all
    OUT refusals bigint, -- calls that were refused, of any generator
    OUT last_refusal text, -- the SQLSTATE of the last
    OUT last_refused timestamptz, -- when the last refusal was
    OUT not_kept_since timestamptz, -- since when the grant or claim could not be written to disk for a restart, null: it can
    OUT generators_in_use integer, -- of idgen.max_generators, over all databases
    OUT worker_pid integer -- the process that moves the horizon; it is not in pg_stat_activity
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'idgen_status_wrapper';
COMMENT ON FUNCTION idgen_status() IS
'the state of idgen on this server, one row';

CREATE FUNCTION idgen_authority(
    OUT host text, -- the host that was tried last
    OUT connected boolean, -- whether it has answered on this connection
    OUT round_trip interval, -- from the last question to its answer
    OUT round_trip_seconds double precision,
    OUT error text, -- what is in the way, if anything is
    OUT machine_id integer, -- the machine id that is granted, null if none is
    OUT epoch bigint, -- the number of the grant
    OUT starts timestamptz, -- no id of an earlier time is given under it
    OUT ends timestamptz, -- nor an id of this time or later, unless it is renewed, which begins at half of its length
    OUT worker_pid integer -- the process that has the connection
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'idgen_authority_wrapper';
COMMENT ON FUNCTION idgen_authority() IS
'how this server stands with its authority, one row';

CREATE FUNCTION idgen_peers(
    OUT host text, -- the host of idgen.peers, null: only heard of
    OUT server text, -- system identifier, timeline and data directory, as in the log
    OUT machine_id integer, -- its machine id
    OUT state text, -- heard; outlier: its clock is too far from the others to be followed; unknown: it never answered
    OUT clock_offset interval, -- how far its wall clock is ahead of the one here
    OUT clock_offset_seconds double precision,
    OUT round_trip interval, -- from the last question to its answer
    OUT round_trip_seconds double precision,
    OUT last_heard interval, -- how long ago it was surely alive
    OUT last_heard_seconds double precision,
    OUT order_bound interval, -- every id given here is above those that it gave longer ago than this; null: the order is unknown
    OUT order_bound_seconds double precision,
    OUT error text -- why it cannot be asked
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
AS 'MODULE_PATHNAME', 'idgen_peers_wrapper';
COMMENT ON FUNCTION idgen_peers() IS
'how this server stands with its peers, and with servers that they have heard of';

CREATE FUNCTION idgen_ask_server(connection text, generators text,
    OUT settings text, OUT in_recovery text, OUT "at" text, OUT server text, OUT unlabelled text, OUT missing text, OUT error text)
    RETURNS SETOF record
LANGUAGE c VOLATILE STRICT ROWS 1
AS 'MODULE_PATHNAME', 'idgen_ask_server_wrapper';
COMMENT ON FUNCTION idgen_ask_server(text, text) IS
'for idgen_doctor(): what the server says of itself that a connection string leads to';
REVOKE ALL ON FUNCTION idgen_ask_server(text, text) FROM PUBLIC;

CREATE FUNCTION idgen_key_beyond(relation oid, column_name name, sequence oid) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_key_beyond_wrapper';
COMMENT ON FUNCTION idgen_key_beyond(oid, name, oid) IS
'for idgen_doctor(): the largest key in this column of the table itself, without those below it, if it is beyond the sequence; null if not, or if the caller may not know';

CREATE FUNCTION idgen_doctor(OUT severity text, OUT finding text, OUT object text, OUT remedy text) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
    itself text := (SELECT system_identifier FROM pg_control_system()) || ' ' || pg_postmaster_start_time();
    preloaded boolean := EXISTS (SELECT FROM pg_settings WHERE name = 'idgen.machine_id' AND context = 'postmaster');
    machine text := CASE WHEN preloaded THEN current_setting('idgen.machine_id') END;
    places text := CASE WHEN current_setting('server_version_num')::int >= 180000
        THEN 'max_active_replication_origins' ELSE 'max_replication_slots' END;
    synchronous text := current_setting('synchronous_standby_names');
    is_unset boolean := false;
    status record;
    found record;
    largest bigint;
    servers text[];
    nodes text[];
    connections text[];
    generators text := (SELECT coalesce(jsonb_object_agg(g.generator, g.definition), '{}') FROM @extschema@.idgen_generators() g);
    answer record;
    before timestamptz;
    -- For each machine id the server that has it: its own name for itself, and its name here.
    seen jsonb := '{}';
    other jsonb;
BEGIN
    -- Whether ids are given.
    IF NOT preloaded THEN
        RETURN QUERY VALUES ('error', 'not preloaded', 'shared_preload_libraries',
            'No ids are given out. Add idgen to it in postgresql.conf and restart the server.');
    ELSE
        SELECT s.* INTO status FROM @extschema@.idgen_status() s;
        is_unset := machine = '-1' AND status.machine_id IS NULL;
        RETURN QUERY SELECT c.severity, c.finding, c.object, c.remedy FROM (VALUES
            (is_unset, 'error', 'machine id unset', 'idgen.machine_id',
                'Give each server a number of its own in postgresql.conf and restart the server. If an authority should grant it, see idgen_authority(), and if it was given back, SELECT idgen_take_machine().'),
            (status.obstacle IS NOT NULL AND NOT is_unset AND NOT pg_is_in_recovery(), 'error', 'no ids', 'idgen_next()',
                format('Since %s: %s. SELECT idgen_next() says what to do, and the server log what idgen met.',
                    coalesce(date_trunc('second', status.stopped_since)::text, 'now'), status.obstacle)),
            (status.clock_held > '0', 'error', 'clock not synchronised', 'wall clock',
                format('It leapt %s ahead and is not followed. If it is right: SELECT idgen_accept_clock().', status.clock_held)),
            (status.clock_ahead > '10 s', 'warning', 'clock not synchronised', 'wall clock',
                format('Ids are %s ahead of it, which takes ten times that to heal.', status.clock_ahead)),
            (status.last_clock_step > now() - interval '1 day', 'warning', 'clock not synchronised', 'wall clock',
                format('It was stepped, %s times since the start. Let chrony or ntpd keep it right.', status.clock_steps)),
            (status.not_kept_since IS NOT NULL, 'warning', 'not kept over a restart', 'data directory',
                format('Since %s the file in which the machine id that this server holds is kept cannot be written. Let the server''s user write there.',
                    date_trunc('second', status.not_kept_since))),
            (status.generators_in_use >= current_setting('idgen.max_generators')::int, 'warning', 'no free place for a generator',
                'idgen.max_generators', 'The next generator that is used for the first time gives no ids. Raise it and restart the server.'),
            (current_setting('idgen.ordering') = 'strict' AND current_setting('idgen.authority_database') = ''
                AND NOT EXISTS (SELECT FROM @extschema@.idgen_authority() a WHERE a.worker_pid IS NOT NULL),
                'error', 'no authority', 'idgen.ordering',
                'Strict ids come from an authority: set idgen.authority, or on the authority itself idgen.authority_database.'),
            (synchronous <> '' AND NOT pg_is_in_recovery()
                AND NOT EXISTS (SELECT FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum')),
                'error', 'no synchronous standby', 'synchronous_standby_names',
                'Ids end at the horizon that it has acknowledged, and commits wait. Bring a standby of these names back, or change the setting and reload.'),
            (current_setting('idgen.authority_database') <> '' AND current_setting('idgen.grant_length')::interval
                    <= 4 * current_setting('idgen.max_clock_offset')::interval,
                'warning', 'grants too short', 'idgen.grant_length',
                'Members may be refused a renewal in time, after a start of this authority or by a false question of one of them. Make it more than four times idgen.max_clock_offset.'),
            (synchronous = '' AND current_setting('idgen.authority_database') <> '' AND NOT pg_is_in_recovery(),
                'notice', 'failover not covered', 'synchronous_standby_names',
                'A standby that is promoted may not know what this authority granted last. Name one synchronous standby, once it is there.'),
            -- Every set of standbys that may acknowledge for the old primary must contain the promoted one. That holds where
            -- one standby is named, or where all that are named are waited for.
            (synchronous LIKE '%*%' OR cardinality(string_to_array(synchronous, ','))
                > coalesce(substring(synchronous FROM '^\s*(?:[Aa][Nn][Yy]|[Ff][Ii][Rr][Ss][Tt])?\s*(\d+)\s*\(')::int, 1),
                'notice', 'failover needs fencing', 'synchronous_standby_names',
                'A standby that is not promoted may go on acknowledging what the old primary does: cut that from all its standbys before one is promoted. Not needed where one standby is named, or all that are named are waited for.')
            ) AS c(is_so, severity, finding, object, remedy)
        WHERE c.is_so;
        RETURN QUERY
            SELECT 'error', 'older SQL than the library', 'extension idgen', 'In this database: ALTER EXTENSION idgen UPDATE.'
            FROM pg_extension e WHERE e.extname = 'idgen' AND e.extversion <> status.version;
    END IF;
    IF has_function_privilege('pg_show_replication_origin_status()', 'EXECUTE') THEN
        SELECT count(*) AS taken, coalesce(bool_or(o.local_id = 65530), false) AS has_ours INTO found
        FROM pg_show_replication_origin_status() o;
        IF found.taken >= current_setting(places)::int THEN
            RETURN QUERY SELECT CASE WHEN found.has_ours THEN 'warning' ELSE 'error' END,
                'no free place for a replication origin', places,
                'idgen takes one for good, each subscription another. Raise it, on standbys first, and restart the server.';
        END IF;
    END IF;

    -- Columns.
    RETURN QUERY
        SELECT 'error', 'ids do not fit', format('%s.%I', c.relation::regclass, c.name),
            format('It is %s: ALTER TABLE %s ALTER COLUMN %I TYPE bigint, which rewrites the table.',
                format_type(a.atttypid, a.atttypmod), c.relation::regclass, c.name)
        FROM (
            SELECT i.relation::oid, i.column_name FROM @extschema@.idgen_columns() i
            UNION
            SELECT f.conrelid, referring.attname
            FROM pg_constraint f, unnest(f.conkey, f.confkey) AS pair(referring, referred),
                @extschema@.idgen_columns() i, pg_attribute referred, pg_attribute referring
            WHERE f.contype = 'f' AND f.confrelid = i.relation
                AND referred.attrelid = f.confrelid AND referred.attnum = pair.referred AND referred.attname = i.column_name
                AND referring.attrelid = f.conrelid AND referring.attnum = pair.referring
        ) c(relation, name), pg_attribute a
        WHERE a.attrelid = c.relation AND a.attname = c.name AND a.attinhcount = 0
            AND a.attgenerated = '' AND a.atttypid IN ('integer'::regtype, 'smallint'::regtype, 'real'::regtype, 'double precision'::regtype)
        ORDER BY 3;
    RETURN QUERY
        WITH RECURSIVE adopted(relation, name) AS (
            SELECT i.relation::oid, i.column_name FROM @extschema@.idgen_columns() i
            UNION
            SELECT h.inhrelid, name FROM adopted, pg_inherits h WHERE h.inhparent = relation
        )
        SELECT CASE WHEN l.label IS NOT NULL OR (e.adrelid, a.attname) IN (SELECT relation, name FROM adopted)
                THEN 'warning' ELSE 'notice' END, 'nextval() default left', format('%s.%I', e.adrelid::regclass, a.attname),
            CASE WHEN l.label IS NULL THEN 'Its table has ids of idgen. If this column is to have them too: idgen_adopt().'
                ELSE 'Its sequence is a generator, of which only idgen_next() gives ids: idgen_adopt().' END
        FROM pg_depend d JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
            JOIN pg_attrdef e ON e.oid = d.objid
            JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
            LEFT JOIN pg_seclabel l ON l.provider = 'idgen' AND l.objoid = s.oid AND l.classoid = d.refclassid
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
            AND (l.label IS NOT NULL OR e.adrelid IN (SELECT relation FROM adopted))
            AND NOT EXISTS (SELECT FROM @extschema@.idgen_columns() i WHERE i.relation = e.adrelid AND i.column_name = a.attname)
        ORDER BY 3;

    -- A tool that undoes an adoption leaves this: the next nextval() is below ids that exist.
    FOR found IN
        SELECT e.adrelid AS relation, a.attname AS name, s.oid AS sequence
        FROM pg_depend d JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
            JOIN pg_attrdef e ON e.oid = d.objid
            JOIN pg_class c ON c.oid = e.adrelid AND c.relpersistence = 'p' AND s.relpersistence = 'p'
            JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum AND a.atttypid = 'bigint'::regtype
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
            AND NOT EXISTS (SELECT FROM pg_seclabel l WHERE l.provider = 'idgen' AND l.objoid = s.oid AND l.classoid = d.refclassid)
            AND NOT EXISTS (SELECT FROM @extschema@.idgen_columns() i WHERE i.relation = e.adrelid AND i.column_name = a.attname)
        ORDER BY 1, 2
    LOOP
        BEGIN
            WITH RECURSIVE tree(member) AS (SELECT found.relation UNION SELECT h.inhrelid FROM tree, pg_inherits h WHERE h.inhparent = member)
            SELECT max(@extschema@.idgen_key_beyond(member, found.name, found.sequence)) INTO largest FROM tree;
            IF largest BETWEEN @extschema@.idgen_min_id('2025-01-02 00:00:00+00') AND @extschema@.idgen_max_id(now() + interval '1 day') THEN
                RETURN QUERY SELECT 'error', 'sequence behind its keys', format('%s.%I', found.relation::regclass, found.name),
                    format('Its keys are ids, and its default is nextval() again: SELECT idgen_adopt(%L, %L), and look in docs/orms.md for the tool that undid it.',
                        found.relation::regclass::text, found.name);
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            RETURN QUERY SELECT 'notice', 'not looked at', found.relation::regclass::text, 'It is locked. Call this again.';
            -- There may be many.
            PERFORM set_config('lock_timeout', '1ms', true);
        END;
    END LOOP;
    -- The following may look into tables that other sessions have locked.
    BEGIN
        RETURN QUERY
            SELECT 'warning', 'reference that may be too narrow', s.suspect,
                format('It may hold keys of %s, which are ids now and do not fit in %s: %s.',
                    coalesce(string_agg(s.relation::text, ' or ' ORDER BY s.relation::text), 'a table with ids'), s.type, s.remedy)
            FROM @extschema@.idgen_suspects(VARIADIC ARRAY(SELECT DISTINCT i.relation FROM @extschema@.idgen_columns() i)) s
            GROUP BY s.suspect, s.type, s.remedy
            ORDER BY 3;
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY VALUES ('notice', 'not looked at', 'references', 'A table is locked. Call this again.');
    END;
    BEGIN
        RETURN QUERY
            SELECT 'warning', 'partitions end', p.relation::text,
                format('From %s on new ids have no partition: SELECT idgen_create_partitions(%L, %1$L, ...).',
                    CASE WHEN p.generator IS NULL THEN @extschema@.idgen_timestamp(p.beyond::bigint)
                        ELSE @extschema@.idgen_timestamp(p.beyond::bigint, p.generator) END, p.relation::text)
            FROM (SELECT i.relation, i.generator, b.beyond, CASE
                    WHEN i.generator IS NULL THEN @extschema@.idgen_min_id(now() + interval '1 day')
                    WHEN g.epoch IS NOT NULL THEN @extschema@.idgen_min_id(now() + interval '1 day', i.generator) END AS needed
                FROM @extschema@.idgen_columns() i
                    JOIN pg_partitioned_table t ON t.partrelid = i.relation AND t.partstrat = 'r' AND t.partnatts = 1 AND t.partdefid = 0
                    JOIN pg_attribute a ON a.attrelid = i.relation AND a.attnum = t.partattrs[0] AND a.attname = i.column_name
                        AND a.atttypid = 'bigint'::regtype
                    LEFT JOIN @extschema@.idgen_generators() g ON g.generator = i.generator,
                    LATERAL (SELECT CASE WHEN NOT bool_or(e.bound LIKE '%TO (MAXVALUE)') THEN max(substring(e.bound FROM 'TO \(''(\d+)''\)')::numeric) END
                            AS beyond
                        FROM pg_inherits h, pg_class c, pg_get_expr(c.relpartbound, c.oid) e(bound)
                        WHERE h.inhparent = i.relation AND c.oid = h.inhrelid) b) p
            WHERE p.beyond < p.needed
            ORDER BY 3;
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY VALUES ('notice', 'not looked at', 'partitions', 'One is locked. Call this again.');
    END;

    -- Generators.
    RETURN QUERY
        SELECT CASE WHEN g.used < 1 THEN 'warning' ELSE 'error' END, 'near exhaustion', g.generator::text,
            format('%s %% of its %s are used. Adopt its columns with a generator that lasts longer.',
                trunc(least(g.used, 1)::numeric * 100), CASE WHEN g.epoch IS NULL THEN 'values' ELSE 'timestamps' END)
        FROM @extschema@.idgen_generators() g
        WHERE CASE WHEN g.epoch IS NOT NULL THEN g.used > 0.9 OR g.ends < now() + interval '1 year'
            ELSE g.used > 0.9 END
        ORDER BY 3;

    RETURN QUERY
        SELECT 'error', 'machine id too large', g.generator::text,
            format('Its layout has room for 0 to %s, and idgen.machine_id is %s: it gives no ids. Make it anew with more machine bits.',
                (1 << substring(g.definition FROM 'machine:(\d+)')::int) - 1, machine)
        FROM @extschema@.idgen_generators() g
        WHERE machine::bigint >= 1::bigint << substring(g.definition FROM 'machine:(\d+)')::int
        ORDER BY 3;
    RETURN QUERY
        SELECT 'error', 'no authority', g.generator::text,
            'Its ids come from an authority: set idgen.authority, or on the authority itself idgen.authority_database.'
        FROM @extschema@.idgen_generators() g
        WHERE preloaded AND g.definition ~ ' order:(strict|block)$' AND current_setting('idgen.authority_database', true) = ''
            AND NOT EXISTS (SELECT FROM @extschema@.idgen_authority() a WHERE a.worker_pid IS NOT NULL)
        ORDER BY 3;
    RETURN QUERY
        SELECT 'error', 'not a counter any more', g.generator::text,
            format('It gives no ids as it was altered: ALTER SEQUENCE %s INCREMENT 1 NO CYCLE, and SET LOGGED if it is not.', g.generator)
        FROM @extschema@.idgen_generators() g, pg_sequence s, pg_class c
        WHERE g.epoch IS NULL AND s.seqrelid = g.generator AND c.oid = g.generator
            AND (s.seqincrement <> 1 OR s.seqcycle OR c.relpersistence <> 'p')
        ORDER BY 3;
    RETURN QUERY
        SELECT 'error', 'counter at its end', g.generator::text,
            format('ALTER SEQUENCE %s MAXVALUE ..., or adopt its columns with another generator.', g.generator)
        FROM @extschema@.idgen_generators() g, pg_sequence s
        WHERE g.epoch IS NULL AND s.seqrelid = g.generator AND @extschema@.idgen_count(g.generator) >= s.seqmax
        ORDER BY 3;
    RETURN QUERY
        SELECT 'warning', 'counter set back', g.generator::text,
            format('It repeats values up to %s, which this server gave before. If any of their rows are left: ALTER SEQUENCE %s RESTART WITH %s.',
                u.value, g.generator, u.value + 1)
        FROM @extschema@.idgen_generators() g, @extschema@.idgen_repeats_until(g.generator) u(value)
        WHERE g.epoch IS NULL AND u.value IS NOT NULL
        ORDER BY 3;
    -- Replication sets the sequences of subscribers; to those of clock generators it does nothing.
    -- Before PostgreSQL 19 no publication has sequences.
    RETURN QUERY
        SELECT 'notice', 'counter in a publication', g.generator::text,
            format('A subscriber of %s sets its own when it subscribes, and by REFRESH SEQUENCES, below what it gave too: only before it gives ids of it.',
                string_agg(quote_ident(p.pubname), ', ' ORDER BY p.pubname))
        FROM @extschema@.idgen_generators() g, pg_publication p
        WHERE g.epoch IS NULL AND to_jsonb(p) ->> 'puballsequences' = 'true'
        GROUP BY g.generator ORDER BY 3;
    RETURN QUERY
        SELECT 'notice', 'counter in a subscription', g.generator::text,
            format('ALTER SUBSCRIPTION %I REFRESH SEQUENCES sets it, below what this server gave too: only before ids of it are given here.', b.subname)
        FROM @extschema@.idgen_generators() g, pg_subscription_rel r, pg_subscription b
        WHERE g.epoch IS NULL AND r.srrelid = g.generator AND b.oid = r.srsubid
        ORDER BY 3;
    -- pglogical's tables, if they are tables of the extension and no others of these names. Its functions are not called.
    SELECT count(*) = 5 AS are_there, bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) AS are_open INTO found
    FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'
        JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'r'
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_roles r ON r.oid = c.relowner AND (r.rolsuper OR r.rolname = current_user)
    WHERE x.extname = 'pglogical' AND n.nspname = 'pglogical'
        AND c.relname IN ('replication_set', 'replication_set_seq', 'local_node', 'subscription', 'queue');
    IF found.are_there AND EXISTS (SELECT FROM @extschema@.idgen_generators() g WHERE g.epoch IS NULL) THEN
        IF found.are_open THEN
            RETURN QUERY EXECUTE $pglogical$
                SELECT 'warning', 'counter in a replication set', g.generator::text,
                    format('pglogical sets it on subscribers, below what they gave too. If they give ids of it: SELECT pglogical.replication_set_remove_sequence(%L, %L).',
                        s.set_name, g.generator)
                FROM @extschema@.idgen_generators() g, ONLY pglogical.replication_set_seq q, ONLY pglogical.replication_set s
                WHERE g.epoch IS NULL AND q.set_seqoid = g.generator AND s.set_id = q.set_id
                ORDER BY 3, 4 $pglogical$;
            RETURN QUERY EXECUTE $pglogical$
                SELECT 'warning', 'counter set by pglogical', g.generator::text,
                    format('%s times in a day, below what this server gave too. If it gives ids of it, on the provider: SELECT pglogical.replication_set_remove_sequence(..., %L).',
                        count(*), g.generator)
                FROM @extschema@.idgen_generators() g JOIN pg_class c ON c.oid = g.generator JOIN pg_namespace n ON n.oid = c.relnamespace,
                    ONLY pglogical.queue q
                WHERE g.epoch IS NULL AND q.message_type = 'S' AND q.queued_at > now() - interval '1 day'
                    AND (q.message ->> 'schema_name', q.message ->> 'sequence_name') = (n.nspname, c.relname)
                    AND EXISTS (SELECT FROM ONLY pglogical.subscription s, ONLY pglogical.local_node l WHERE s.sub_target = l.node_id)
                GROUP BY g.generator ORDER BY 3 $pglogical$;
        ELSE
            RETURN QUERY VALUES ('notice', 'not looked at', 'replication sets of pglogical',
                'Whether they have counters: call this as a superuser.');
        END IF;
    END IF;
    RETURN QUERY
        SELECT 'error', 'label lost', i.generator::text,
            format('It is no generator any more, so that %s.%I gets no ids. SECURITY LABEL FOR idgen ON SEQUENCE %s IS ''...'', with the definition that it had.',
                i.relation, i.column_name, i.generator)
        FROM @extschema@.idgen_columns() i
        WHERE i.generator IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_seclabel l WHERE l.provider = 'idgen' AND l.objoid = i.generator AND l.classoid = 'pg_class'::regclass)
        ORDER BY 3;

    -- The authority and the peers.
    -- Where the extension is not, a schema of that name may be anyone's.
    IF preloaded AND EXISTS (SELECT FROM pg_depend d, pg_extension x WHERE x.extname = 'idgen_authority' AND d.refobjid = x.oid
            AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass AND d.objid = to_regclass('idgen_authority.state'))
        AND has_table_privilege('idgen_authority.state', 'SELECT')
    THEN
        RETURN QUERY EXECUTE $authority$
            SELECT 'warning', 'no machine id is granted', 'idgen_authority', format('The book is new, or was restored, and may not know of '
                'all machine ids that are in use. It grants again at %s, or after SELECT idgen_authority.confirm_book().', to_timestamp(settles / 1000000.0))
            FROM idgen_authority.state WHERE settles > extract(epoch FROM clock_timestamp()) * 1000000 $authority$;
    END IF;
    IF preloaded THEN
        RETURN QUERY
            SELECT CASE WHEN a.ends > now() THEN 'warning' ELSE 'error' END, 'authority not heard', coalesce(a.host, 'idgen.authority'),
                a.error || CASE WHEN a.ends IS NULL THEN '' ELSE format(' (with the machine id that is granted ids go on until %s)', a.ends) END
            FROM @extschema@.idgen_authority() a WHERE a.error IS NOT NULL;
        RETURN QUERY
            SELECT 'warning', 'peer not heard', coalesce(p.host, p.server), p.error
            FROM @extschema@.idgen_peers() p WHERE p.error IS NOT NULL ORDER BY 3;
        RETURN QUERY
            SELECT 'warning', 'clock not synchronised', coalesce(p.host, p.server),
                format('Its wall clock is %s ahead of this one, and its ids are not followed. Let chrony or ntpd keep both right.', p.clock_offset)
            FROM @extschema@.idgen_peers() p WHERE p.state = 'outlier' ORDER BY 3;
        RETURN QUERY
            SELECT 'error', 'machine id of another server', coalesce(p.host, p.server),
                format('Both have %s. Give one of them another idgen.machine_id and restart it.', p.machine_id)
            FROM @extschema@.idgen_peers() p
            WHERE p.machine_id::text = machine AND p.last_heard < interval '10 s' ORDER BY 3;
        RETURN QUERY
            SELECT 'error', 'one machine id of two other servers', string_agg(coalesce(p.host, p.server), ', ' ORDER BY p.server),
                format('They have %s. Give one of them another idgen.machine_id and restart it.', p.machine_id)
            FROM @extschema@.idgen_peers() p
            WHERE p.last_heard < interval '10 s' AND p.machine_id::text IS DISTINCT FROM machine
            GROUP BY p.machine_id HAVING count(DISTINCT p.server) > 1 ORDER BY 3;
    END IF;

    -- Other servers: those that this server can ask, and those that it can only name.
    RETURN QUERY
        SELECT 'notice', 'not looked at', 'standby ' || quote_ident(r.application_name),
            'Call this on the standby: its settings can be seen only there.'
        FROM pg_stat_replication r WHERE r.state <> 'backup' ORDER BY 3;
    -- An owner says how to connect, which options to hand on for one: a superuser's session goes only where a superuser says.
    RETURN QUERY
        SELECT 'notice', 'not looked at', s.name, format('It belongs to %s: only a superuser''s are asked.', r.rolname)
        FROM (SELECT 'server ' || quote_ident(f.srvname), f.srvowner FROM pg_foreign_server f JOIN pg_foreign_data_wrapper w ON w.oid = f.srvfdw
                WHERE w.fdwname IN ('postgres_fdw', 'dblink_fdw')
            UNION ALL
            SELECT 'subscription ' || quote_ident(b.subname), b.subowner FROM pg_subscription b) s(name, owner), pg_roles r
        WHERE r.oid = s.owner AND NOT r.rolsuper ORDER BY 3;
    servers := ARRAY(SELECT 'server ' || quote_ident(s.srvname) FROM pg_foreign_server s, pg_foreign_data_wrapper w, pg_roles r
            WHERE w.oid = s.srvfdw AND w.fdwname IN ('postgres_fdw', 'dblink_fdw') AND r.oid = s.srvowner AND r.rolsuper ORDER BY s.srvname)
        || ARRAY(SELECT 'subscription ' || quote_ident(s.subname) FROM pg_subscription s, pg_roles r
            WHERE r.oid = s.subowner AND r.rolsuper ORDER BY s.subname, s.oid)
        || ARRAY(SELECT 'primary' WHERE pg_is_in_recovery());
    -- The other nodes, if Citus is installed.
    IF to_regclass('pg_catalog.pg_dist_node') IS NOT NULL AND NOT pg_is_in_recovery() THEN
        BEGIN
            EXECUTE $citus$
                SELECT array_agg(format('Citus node %s:%s', nodename, nodeport) ORDER BY nodename, nodeport),
                    array_agg(format('host=''%s'' port=%s dbname=''%s'' user=''%s''', replace(replace(nodename, '\', '\\'), '''', '\'''), nodeport,
                        replace(replace(current_database(), '\', '\\'), '''', '\'''),
                        replace(replace(current_user, '\', '\\'), '''', '\''')) ORDER BY nodename, nodeport)
                FROM pg_dist_node WHERE isactive AND noderole::text = 'primary' $citus$ INTO nodes, connections;
        EXCEPTION WHEN insufficient_privilege OR undefined_column THEN
            NULL; -- The table is of another kind.
        END;
    END IF;
    servers := servers || nodes;
    IF NOT current_setting('is_superuser')::boolean THEN
        RETURN QUERY SELECT 'notice', 'not looked at', s,
            'Call this as a superuser to have it asked for its machine id, clock and limits.'
        FROM unnest(servers) s;
        RETURN;
    END IF;
    connections := ARRAY(
            SELECT coalesce(string_agg(format('%s=''%s''', o.option_name,
                replace(replace(o.option_value, '\', '\\'), '''', '\''')), ' '), '')
            FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
                JOIN pg_roles r ON r.oid = s.srvowner AND r.rolsuper
                LEFT JOIN pg_user_mapping m ON m.umserver = s.oid
                    AND m.umuser IN (0, (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user))
                LEFT JOIN LATERAL pg_options_to_table(coalesce(s.srvoptions, '{}') || coalesce(m.umoptions, '{}')) o
                    ON o.option_name IN ('host', 'hostaddr', 'port', 'dbname', 'user', 'password', 'passfile', 'service', 'options',
                        'sslmode', 'sslcert', 'sslkey', 'sslrootcert', 'sslcrl', 'channel_binding', 'gssencmode', 'krbsrvname',
                        'target_session_attrs')
            WHERE w.fdwname IN ('postgres_fdw', 'dblink_fdw') GROUP BY s.oid, s.srvname ORDER BY s.srvname)
        || ARRAY(SELECT s.subconninfo FROM pg_subscription s, pg_roles r WHERE r.oid = s.subowner AND r.rolsuper ORDER BY s.subname, s.oid)
        -- If an option is given twice, the last one counts.
        || ARRAY(SELECT current_setting('primary_conninfo') || ' dbname=postgres' WHERE pg_is_in_recovery())
        || connections;
    FOR i IN 1 .. cardinality(servers) LOOP
        before := clock_timestamp();
        SELECT a.settings::jsonb AS settings, a.in_recovery::boolean AS in_recovery, a."at"::timestamptz AS at, a.server, a.unlabelled, a.missing, a.error INTO answer
        FROM @extschema@.idgen_ask_server(connections[i], CASE WHEN servers[i] = ANY (nodes) THEN generators ELSE '{}' END) a;
        IF answer.error IS NOT NULL THEN
            RETURN QUERY VALUES ('notice', 'not looked at', servers[i], 'It gave no answer: ' || answer.error);
            CONTINUE;
        END IF;
        CONTINUE WHEN answer.server = itself;
        IF servers[i] = ANY (nodes) AND answer.unlabelled IS NOT NULL THEN
            RETURN QUERY VALUES ('error', 'label lost', servers[i],
                format('Security labels do not reach it, and these are no generators there: %s. docs/engines.md has the statement that makes them there.',
                    answer.unlabelled));
        END IF;
        IF answer.missing IS NOT NULL THEN
            RETURN QUERY VALUES ('warning', 'generator not on a node', servers[i],
                format('What runs there and names them fails, or takes ids of another layout: %s. docs/engines.md has the statement that makes them there.',
                    answer.missing));
        END IF;
        IF answer.at NOT BETWEEN before - interval '1 s' AND clock_timestamp() + interval '1 s' THEN
            RETURN QUERY VALUES ('warning', 'clock not synchronised', servers[i],
                'Its wall clock is a second or more from this one. Let chrony or ntpd keep both right.');
        END IF;
        IF servers[i] = 'primary' THEN
            RETURN QUERY
                SELECT 'error', 'lower limit than the primary', s.name,
                    format('It is %s here and %s there. Raise it to no less and restart this server.', s.setting, p.value)
                FROM pg_settings s, jsonb_each_text(answer.settings) p
                WHERE s.name = p.key AND s.name <> 'idgen.machine_id' AND s.setting::int < p.value::int
                ORDER BY 3;
        ELSIF NOT answer.in_recovery AND answer.settings ->> 'idgen.machine_id' <> '-1' THEN
            other := seen -> (answer.settings ->> 'idgen.machine_id');
            IF machine = answer.settings ->> 'idgen.machine_id' THEN
                RETURN QUERY VALUES ('error', 'machine id of another server', servers[i],
                    format('Both have %s. Give one of them another idgen.machine_id and restart it.', machine));
            ELSIF other ->> 0 <> answer.server THEN
                RETURN QUERY VALUES ('error', 'one machine id of two other servers', servers[i],
                    format('It and %s have %s. Give one of them another idgen.machine_id and restart it.',
                        other ->> 1, answer.settings ->> 'idgen.machine_id'));
            END IF;
            seen := seen || jsonb_build_object(answer.settings ->> 'idgen.machine_id', jsonb_build_array(answer.server, servers[i]));
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION idgen_doctor() IS
'what is wrong with idgen on this server and in this database, and what to do about it; asks other servers if a superuser calls';

-- These tell of tables, of other servers and of how busy this one is: only monitoring may call them.
REVOKE ALL ON FUNCTION idgen_status(), idgen_authority(), idgen_peers(), idgen_doctor() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idgen_status(), idgen_authority(), idgen_peers(), idgen_doctor() TO pg_monitor;

-- Repair. Each of these spends something that cannot be had back: for superusers, until granted to others.

CREATE FUNCTION idgen_accept_clock() RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_accept_clock_wrapper';
COMMENT ON FUNCTION idgen_accept_clock() IS
'declares the wall clock right: ids follow it from now on, however far it leapt ahead';

CREATE FUNCTION idgen_raise_horizon("at" timestamptz) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'idgen_raise_horizon_wrapper';
COMMENT ON FUNCTION idgen_raise_horizon(timestamptz) IS
'sees to it that every id from now on is of that time or later, for good: after pg_upgrade or pg_resetwal, where the clock was ahead';

CREATE FUNCTION idgen_observe(id bigint) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_observe_wrapper';
COMMENT ON FUNCTION idgen_observe(bigint) IS
'has idgen_next() go on above an id that came from elsewhere, if that is not further than idgen.max_clock_offset ahead of the wall clock';

CREATE FUNCTION idgen_release_machine() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_release_machine_wrapper';
COMMENT ON FUNCTION idgen_release_machine() IS
'gives the granted machine id back; no ids are given from then on, until idgen_take_machine() or a restart';

CREATE FUNCTION idgen_take_machine() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_take_machine_wrapper';
COMMENT ON FUNCTION idgen_take_machine() IS
'has a machine id granted again after idgen_release_machine()';

CREATE FUNCTION idgen_take_over() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_take_over_wrapper';
COMMENT ON FUNCTION idgen_take_over() IS
'of two servers with one machine id, has this one go on and the other refuse';

REVOKE ALL ON FUNCTION idgen_accept_clock(), idgen_raise_horizon(timestamptz), idgen_observe(bigint),
    idgen_release_machine(), idgen_take_machine(), idgen_take_over() FROM PUBLIC;

-- The function that peers call.

CREATE FUNCTION idgen_gossip(cluster text, message text) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_gossip_wrapper';
COMMENT ON FUNCTION idgen_gossip(text, text) IS
'for peers: what this server and those that it heard of did last';

CREATE FUNCTION idgen_allow_peer(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_gossip(text, text) TO ' || role;
END;
$$;
COMMENT ON FUNCTION idgen_allow_peer(regrole) IS
'lets the role ask, for another server, what this one did last, and nothing else';
REVOKE ALL ON FUNCTION idgen_gossip(text, text), idgen_allow_peer(regrole) FROM PUBLIC;
