-- complain if script is sourced in psql rather than by ALTER EXTENSION
\echo Use "ALTER EXTENSION idgen UPDATE TO '0.2.0'" to load this file. \quit

-- Generators: a layout of one's own, or a published one, each behind a sequence that carries its name and privileges.

CREATE VIEW idgen_presets(preset, definition, purpose) AS VALUES
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
    ('pgedge', 'timestamp:41 sequence:12 machine:10 epoch:1672531200000000 tick:1000',
     'continues ids of the pgEdge snowflake extension: milliseconds since 2023, count, node');
COMMENT ON VIEW idgen_presets IS
'the layouts that idgen_create_generator() knows by name: fields from the highest bits down, epoch and tick in microseconds';
GRANT SELECT ON idgen_presets TO PUBLIC;

CREATE FUNCTION idgen_create_generator(
    name text, preset text DEFAULT NULL,
    timestamp_bits integer DEFAULT NULL, machine_bits integer DEFAULT 0,
    backend_bits integer DEFAULT 0, sequence_bits integer DEFAULT 0,
    epoch timestamptz DEFAULT '2025-01-01 00:00:00+00', tick interval DEFAULT '1 ms',
    flush_every bigint DEFAULT NULL, schema name DEFAULT current_schema()) RETURNS regclass
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[] := parse_ident(name);
    sequence text;
    definition text;
    is_counter boolean;
BEGIN
    IF cardinality(parts) > 2 THEN
        RAISE invalid_name USING MESSAGE = format('"%s" is not a name or a schema and a name', name);
    END IF;
    sequence := quote_ident(CASE cardinality(parts) WHEN 2 THEN parts[1] ELSE schema END)
        || '.' || quote_ident(parts[cardinality(parts)]);
    IF (preset IS NULL) = (timestamp_bits IS NULL) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'a generator needs either a preset or timestamp_bits',
            HINT = 'SELECT * FROM idgen_presets shows the presets.';
    ELSIF preset IS NOT NULL THEN
        SELECT p.definition INTO definition FROM @extschema@.idgen_presets p WHERE p.preset = $2;
        IF NOT FOUND THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('there is no preset "%s"', preset),
                HINT = 'SELECT * FROM idgen_presets shows the presets.';
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
    IF is_counter THEN
        EXECUTE format('CREATE SEQUENCE %s MAXVALUE %s NO CYCLE', sequence,
            (2::numeric ^ substring(definition FROM 'counter:(\d+)')::int)::numeric(20) - 1);
    ELSE
        -- The sequence only lends its name: nextval() on it gives nothing that could be taken for an id.
        EXECUTE format('CREATE SEQUENCE %s MINVALUE -2 MAXVALUE -1', sequence);
        PERFORM setval(sequence::regclass, -1);
    END IF;
    EXECUTE format('SECURITY LABEL FOR idgen ON SEQUENCE %s IS %L', sequence, definition);
    RETURN sequence::regclass;
END;
$$;
COMMENT ON FUNCTION idgen_create_generator(text, text, integer, integer, integer, integer, timestamptz, interval, bigint, name) IS
'makes a generator: a sequence that is dropped, renamed, granted and dumped as any other, whose ids idgen_next(generator) gives; by preset, or by bits from the highest down, epoch and tick';

CREATE FUNCTION idgen_next(generator regclass) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'idgen_next_of_wrapper';
COMMENT ON FUNCTION idgen_next(regclass) IS
'the next id of the generator; needs USAGE or UPDATE on its sequence, as nextval() does';

CREATE FUNCTION idgen_next_many(generator regclass, n integer) RETURNS SETOF bigint
LANGUAGE c VOLATILE STRICT PARALLEL SAFE ROWS 1000
AS 'MODULE_PATHNAME', 'idgen_next_many_of_wrapper';
COMMENT ON FUNCTION idgen_next_many(regclass, integer) IS
'n ids of the generator, increasing, each as if from idgen_next(generator)';

-- A definition never changes, so that these are immutable.

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

CREATE FUNCTION idgen_decode(id bigint, generator regclass,
    OUT "at" timestamptz, OUT machine integer, OUT backend integer, OUT sequence bigint)
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN d.epoch IS NOT NULL THEN idgen_timestamp(id, generator) END,
        idgen_machine(id, generator), idgen_backend(id, generator), idgen_sequence(id, generator)
    FROM idgen_definition(generator) d;
END;
COMMENT ON FUNCTION idgen_decode(bigint, regclass) IS
'all that an id of the generator says';

CREATE VIEW idgen_generators AS
    SELECT l.objoid::regclass AS generator, d.definition, d.epoch, d.ends, d.tick, d.per_second, d.max_id, d.flush_every,
        CASE WHEN d.epoch IS NULL
            THEN coalesce(pg_sequence_last_value(l.objoid::regclass), 0)
                / (2::double precision ^ substring(d.definition FROM 'counter:(\d+)')::int)
            ELSE extract(epoch FROM now() - d.epoch) / extract(epoch FROM d.ends - d.epoch)
        END AS used
    FROM pg_seclabel l, idgen_definition(l.objoid::regclass) d
    WHERE l.provider = 'idgen' AND l.classoid = 'pg_class'::regclass AND l.objsubid = 0;
COMMENT ON VIEW idgen_generators IS 'the generators of this database';
COMMENT ON COLUMN idgen_generators.definition IS 'the fields from the highest bits down, epoch and tick in microseconds';
COMMENT ON COLUMN idgen_generators.epoch IS 'where its time begins, null for a counter';
COMMENT ON COLUMN idgen_generators.ends IS 'when its timestamps run out, null for a counter or past the end of timestamptz';
COMMENT ON COLUMN idgen_generators.tick IS 'how long one timestamp lasts';
COMMENT ON COLUMN idgen_generators.per_second IS 'how many ids a second each server can give out, sustained; null for a counter';
COMMENT ON COLUMN idgen_generators.max_id IS 'the largest id that it can give out';
COMMENT ON COLUMN idgen_generators.flush_every IS 'of a counter: how many values are made durable at once';
COMMENT ON COLUMN idgen_generators.used IS 'the share of its timestamps or values that is behind it';
GRANT SELECT ON idgen_generators TO PUBLIC;
