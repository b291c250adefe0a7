-- Generators are sequences: made, named, moved, granted and dropped as sequences are. No id of a clock is printed.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
\set VERBOSITY sqlstate
SET TimeZone = 'UTC';
CREATE SCHEMA gen;
SET search_path = gen, public;

-- Every preset makes a generator, whose ids are distinct and increasing and decode to now.
SELECT idgen_create_generator(preset, preset) FROM idgen_presets() ORDER BY preset COLLATE "C";
SELECT count(*) = (SELECT count(*) FROM idgen_presets()) AS all
FROM idgen_generators() JOIN pg_class ON pg_class.oid = generator WHERE relnamespace = 'gen'::regnamespace;
CREATE TABLE taken AS SELECT preset, n, id
FROM idgen_presets(), LATERAL (SELECT row_number() OVER () AS n, id FROM idgen_next_many(preset::regclass, 20) AS id) AS ids;
SELECT preset, count(DISTINCT id), bool_and(id > before) AS increasing, bool_and(id BETWEEN 0 AND max_id) AS fits
FROM (SELECT *, lag(id, 1, -1::bigint) OVER (PARTITION BY preset ORDER BY n) AS before FROM taken) AS ids
JOIN idgen_generators() ON generator = preset::regclass
GROUP BY preset ORDER BY preset COLLATE "C";
SELECT preset, abs(extract(epoch FROM clock_timestamp() - at)) < 60 AS of_now,
    machine = CASE WHEN definition ~ 'machine' THEN current_setting('idgen.machine_id')::int ELSE 0 END AS of_this_machine,
    backend = CASE WHEN definition ~ 'backend'
        THEN idgen_backend(idgen_next(preset::regclass), preset::regclass) ELSE 0 END AS of_this_session
FROM taken JOIN idgen_generators() ON generator = preset::regclass, LATERAL idgen_decode(id, preset::regclass)
WHERE n = 1 ORDER BY preset COLLATE "C";
SELECT bool_and(id BETWEEN idgen_min_id(idgen_timestamp(id, preset::regclass), preset::regclass)
    AND idgen_max_id(idgen_timestamp(id, preset::regclass), preset::regclass)) AS within
FROM taken WHERE preset <> 'counter';
SELECT preset, id = max(id) OVER (PARTITION BY preset) AS last, idgen_next(preset::regclass) > id AS above
FROM taken WHERE n = 20 ORDER BY preset COLLATE "C";
SELECT generator, definition, epoch, ends, tick, per_second, max_id, flush_every, used BETWEEN 0 AND 1 AS used
FROM idgen_generators() JOIN pg_class ON pg_class.oid = generator WHERE relnamespace = 'gen'::regnamespace
ORDER BY relname COLLATE "C";
-- What is exact in JavaScript.
SELECT max_id <= (1::bigint << 53) - 1 AS exact FROM idgen_generators()
WHERE generator IN ('js_safe'::regclass, 'timestamp_machine'::regclass);
DROP TABLE taken;

-- With own bits, epoch and tick.
SELECT idgen_create_generator('own', timestamp_bits => 35, machine_bits => 8, sequence_bits => 20,
    epoch => '2020-01-01 00:00:00+00', tick => '100 ms');
SELECT definition, epoch, ends, tick, per_second, max_id FROM idgen_generators() WHERE generator = 'own'::regclass;
SELECT * FROM idgen_decode((1 << 28) | (3 << 20) | 7, 'own');
SELECT idgen_min_id('2020-01-01 00:00:00.15', 'own'), idgen_max_id('2020-01-01 00:00:00.1', 'own');
SELECT idgen_next('own') < idgen_next('own') AS increasing;
SELECT idgen_create_generator('no_machine', timestamp_bits => 45, sequence_bits => 18, tick => '0.25 ms');
SELECT definition, per_second FROM idgen_generators() WHERE generator = 'no_machine'::regclass;
SELECT idgen_next('no_machine') < idgen_next('no_machine') AS increasing;
SELECT idgen_create_generator('short', timestamp_bits => 20, machine_bits => 4, tick => '1 s');
SELECT idgen_next('short');

-- What cannot be is refused.
SELECT idgen_create_generator('bad');
SELECT idgen_create_generator('bad', 'snowflake', timestamp_bits => 41);
SELECT idgen_create_generator('bad', 'nothing');
SELECT idgen_create_generator('bad', timestamp_bits => 0);
SELECT idgen_create_generator('bad', timestamp_bits => -1);
SELECT idgen_create_generator('bad', timestamp_bits => 41, machine_bits => 10, sequence_bits => 13);
SELECT idgen_create_generator('bad', timestamp_bits => 20, machine_bits => 32);
SELECT idgen_create_generator('bad', timestamp_bits => 41, machine_bits => -1);
SELECT idgen_create_generator('bad', timestamp_bits => 41, tick => '0');
SELECT idgen_create_generator('bad', timestamp_bits => 41, tick => '-1 ms');
SELECT idgen_create_generator('bad', timestamp_bits => 41, tick => '1 minute');
SELECT idgen_create_generator('bad', timestamp_bits => 41, epoch => '1960-01-01');
SELECT idgen_create_generator('bad', timestamp_bits => 41, epoch => 'infinity');
SELECT idgen_create_generator('bad', timestamp_bits => 41, flush_every => 50);
SELECT idgen_create_generator('bad', 'snowflake', flush_every => 50);
SELECT idgen_create_generator('bad', 'counter', flush_every => 0);
SELECT idgen_create_generator('bad', 'counter', flush_every => -1);
SELECT idgen_create_generator('bad', 'counter', flush_every => 2147483649);
SELECT idgen_create_generator('a.b.c', 'snowflake');
SELECT idgen_create_generator('', 'snowflake');
SELECT idgen_create_generator('no_such_schema.bad', 'snowflake');
SELECT idgen_create_generator('snowflake', 'snowflake');
SELECT to_regclass('bad');
-- A name that needs quotes.
SELECT idgen_create_generator('"Wei""rd; name"', 'snowflake');
SELECT idgen_next('"Wei""rd; name"') > 0 AS given;
DROP SEQUENCE "Wei""rd; name";
SELECT idgen_create_generator('elsewhere', 'snowflake', schema => 'public');
SELECT idgen_next('public.elsewhere') > 0 AS given;
DROP SEQUENCE public.elsewhere;

-- An ordinary relation is no generator, and what is none cannot be decoded with.
CREATE SEQUENCE plain;
CREATE TABLE tab (id bigint DEFAULT idgen_next('snowflake'));
SELECT idgen_next('plain');
SELECT idgen_next('tab');
SELECT idgen_next_many('plain', 3);
SELECT idgen_next(0);
SELECT idgen_next(999999999);
SELECT idgen_timestamp(1, 'plain');
SELECT idgen_machine(1, 'tab');
SELECT * FROM idgen_decode(1, 'plain');
SELECT * FROM idgen_definition('plain');
SELECT idgen_next(NULL::regclass) IS NULL AS null;

-- Monitoring does not take a clock generator for used up: the sum of check_postgres, and the next value that others reckon.
SELECT count(*) > 0 AS some, bool_and(ceil((last_value - min_value::numeric + 1) / increment_by) / ceil((max_value - min_value::numeric + 1) / increment_by) < 0.5) AS unused,
    bool_and(last_value + increment_by IS NOT NULL) AS summed
FROM pg_sequences WHERE sequencename = 'snowflake';

-- Nor does nextval() on the sequence of a clock generator give anything that could be an id, whatever it is set to.
SELECT nextval('snowflake');
SELECT idgen_next('snowflake') AS before \gset
SELECT setval('snowflake', 1000), idgen_next('snowflake') > :before AS above;
SELECT nextval('snowflake');
ALTER SEQUENCE snowflake RESTART;
SELECT nextval('snowflake') = 9223372036854775807 AS last_of_all, idgen_next('snowflake') > :before AS above;
SELECT nextval('snowflake');
-- Ids that the layout cannot hold, and a counter's time.
SELECT idgen_timestamp(-1, 'snowflake');
SELECT idgen_timestamp(1::bigint << 53, 'js_safe');
SELECT idgen_machine(-1, 'counter');
SELECT idgen_timestamp(1024, 'counter');
SELECT idgen_min_id(now(), 'counter');
SELECT idgen_min_id('2011-01-01', 'instagram');
SELECT idgen_max_id('2047-01-01', 'instagram');
SELECT idgen_next_many('snowflake', -1);

-- The definition is a security label that only says what it means, only on permanent sequences, and never changes.
SECURITY LABEL FOR idgen ON SEQUENCE plain IS 'nonsense';
SECURITY LABEL FOR idgen ON SEQUENCE plain IS 'timestamp:41 machine:10 sequence:13 epoch:0 tick:1000';
SECURITY LABEL FOR idgen ON TABLE tab IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
SECURITY LABEL FOR idgen ON COLUMN tab.id IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
SECURITY LABEL FOR idgen ON SCHEMA gen IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
CREATE TEMP SEQUENCE passing;
SECURITY LABEL FOR idgen ON SEQUENCE passing IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
SECURITY LABEL FOR idgen ON SEQUENCE snowflake IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
SECURITY LABEL FOR idgen ON SEQUENCE snowflake IS NULL;
SECURITY LABEL FOR idgen ON SEQUENCE counter IS 'counter:53 machine:10 flush:7';
SELECT label FROM pg_seclabel WHERE provider = 'idgen' AND objoid = 'snowflake'::regclass;
-- As a dump does it, also twice.
SECURITY LABEL FOR idgen ON SEQUENCE snowflake IS 'timestamp:41 machine:10 sequence:12 epoch:1735689600000000 tick:1000';
SECURITY LABEL FOR idgen ON SEQUENCE plain IS 'timestamp:41 machine:10 sequence:12 epoch:0 tick:1000';
SELECT idgen_next('plain') > 0 AS given;

-- Renamed and moved while used, by a default too.
SELECT idgen_next('snowflake') AS before \gset
INSERT INTO tab DEFAULT VALUES;
ALTER SEQUENCE snowflake RENAME TO renamed;
CREATE SCHEMA gen2;
ALTER SEQUENCE renamed SET SCHEMA gen2;
INSERT INTO tab DEFAULT VALUES;
SELECT count(DISTINCT id), min(id) > :before AS above FROM tab;
SELECT idgen_next('gen2.renamed') > max(id) AS above FROM tab;
ALTER SCHEMA gen2 RENAME TO gen3;
SELECT idgen_next('gen3.renamed') > max(id) AS above FROM tab;
SELECT generator FROM idgen_generators() WHERE generator = 'gen3.renamed'::regclass;
-- A default keeps its generator from being dropped.
DROP SEQUENCE gen3.renamed;
DROP SEQUENCE gen3.renamed CASCADE;
INSERT INTO tab DEFAULT VALUES;
SELECT count(*) FROM tab WHERE id IS NULL;
SELECT idgen_next('gen3.renamed');

-- Dropped and made again: another generator. Dropped in a transaction that ends badly: the same one.
SELECT idgen_create_generator('again', 'counter');
SELECT idgen_sequence(idgen_next('again'), 'again');
BEGIN;
DROP SEQUENCE again;
SELECT idgen_create_generator('again', 'snowflake');
SELECT idgen_next('again') > 0 AS given;
ROLLBACK;
SELECT idgen_sequence(idgen_next('again'), 'again') > 1 AS above;
SELECT idgen_next('discord') AS before \gset
BEGIN;
SAVEPOINT s;
DROP SEQUENCE discord;
ROLLBACK TO s;
SELECT idgen_next('discord') > :before AS above;
COMMIT;
BEGIN;
DROP SEQUENCE discord;
ROLLBACK;
SELECT idgen_next('discord') > :before AS above;
DROP SEQUENCE again;
SELECT idgen_create_generator('again', 'counter');
SELECT idgen_sequence(idgen_next('again'), 'again');
-- Used in the transaction that made it, rolled back, and made again.
BEGIN;
SELECT idgen_create_generator('passing_by', 'snowflake');
SELECT idgen_next('passing_by') > 0 AS given;
ROLLBACK;
SELECT to_regclass('passing_by');

-- A DROP makes no other generator wait.
SELECT clock_timestamp() AS before \gset
DROP SEQUENCE "timestamp";
SELECT idgen_create_generator('after_drop', 'snowflake');
SELECT idgen_next('after_drop') > 0 AND idgen_next('twitter') > 0 AND idgen_next('timestamp_machine_backend') > 0 AS given;
SELECT clock_timestamp() - :'before' < interval '0.9 s' AS at_once;

DROP SCHEMA gen, gen3 CASCADE;
SELECT count(*) FROM pg_seclabel WHERE provider = 'idgen';

-- What is null, or nowhere, is named.
\set SHOW_CONTEXT never
\set VERBOSITY default
SELECT idgen_create_generator(NULL, 'snowflake');
SELECT idgen_create_generator('g', 'snowflake', ordering => NULL);
SELECT idgen_create_generator('g', timestamp_bits => 41, epoch => 'infinity');
SELECT idgen_next(NULL), idgen_allow_peer(NULL);
SET search_path = '';
SELECT public.idgen_create_generator('g', 'snowflake');
SELECT public.idgen_next('pg_class');
SELECT public.idgen_decode(1, 0);
SELECT public.idgen_from_text(repeat('long ', 1000));
SELECT per_second, max_id FROM public.idgen_describe('timestamp:41 sequence:12 epoch:0 tick:1000');
SELECT public.idgen_describe('nothing');
RESET search_path;
-- Names with one meaning.
SELECT idgen_id_to_time(252201579132747777) = idgen_timestamp(252201579132747777) AS time,
    idgen_time_to_id('2026-01-01 00:00+00') = idgen_min_id('2026-01-01 00:00+00') AS id;
