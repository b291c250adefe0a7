-- Ids that other systems gave out, with what those systems say of them.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
SET TimeZone = 'UTC';
CREATE SCHEMA published;
SET search_path = published, public;
SELECT idgen_create_generator(preset, preset) FROM idgen_presets()
WHERE preset IN ('twitter', 'discord', 'instagram', 'sonyflake', 'pgedge') ORDER BY preset;

CREATE TABLE known (preset regclass, id bigint, at timestamptz, machine int, sequence bigint, source text);
INSERT INTO known VALUES
    ('discord', 175928847299117063, '2016-04-30 11:18:25.796', 32, 7, 'the reference of Discord''s API: worker 1, process 0, increment 7'),
    ('twitter', 1541815603606036480, '2022-06-28 16:07:40.105', 378, 0, 'a tweet, as Wikipedia takes its id apart'),
    ('twitter', 699570924048162816, '2016-02-16 12:28:00', NULL, NULL, 'an account, with created_at in full seconds'),
    ('instagram', 1531241580417505142, to_timestamp(1496758242), NULL, NULL, 'a photo, with taken_at in full seconds'),
    ('instagram', 1465766914780715073, to_timestamp(1488953054), NULL, NULL, 'an album, with taken_at in full seconds'),
    ('instagram', 1014185579136663000, to_timestamp(1435120364), NULL, NULL, 'a photo, with taken_at in full seconds'),
    ('sonyflake', 257532141091473317, '2014-09-01'::timestamptz + 15350111788 * interval '10 ms', 51109, 0, 'Sonyflake''s Decompose()'),
    ('sonyflake', 133591991580950539, '2014-09-01'::timestamptz + 7962703203 * interval '10 ms', 11, 5, 'Sonyflake''s Decompose()'),
    ('pgedge', 136169504773242881, '2024-01-11 18:08:59.845', NULL, NULL, 'the extension''s manual (node and count stood the other way round then)'),
    ('pgedge', 170505378935607296, '2024-04-15 12:07:30.175', 1, 0, 'the extension''s page about Hibernate, written that day');
SELECT preset, k.id, d.at, d.machine, d.sequence,
    d.at - k.at < CASE WHEN source ~ 'full seconds' THEN interval '1 s' ELSE interval '1 us' END AND d.at >= k.at AS published_time,
    coalesce(d.machine = k.machine AND d.sequence = k.sequence, true) AS published_fields
FROM known k, LATERAL idgen_decode(k.id, preset) AS d ORDER BY preset::text, k.id;

-- Ids of now, as the published code composes them of milliseconds, machine and sequence number.
WITH now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms)
SELECT preset, at = to_timestamp((ms / tick * tick) / 1000.0) AS at, machine, sequence
FROM now, LATERAL (VALUES
    -- Twitter's snowflake: ((timestamp - twepoch) << 22) | (datacenterId << 17) | (workerId << 12) | sequence
    ('twitter'::regclass, ((ms - 1288834974657) << 22) | (5 << 17) | (17 << 12) | 99, 1),
    -- Instagram's function: (now_millis - our_epoch) << 23 | shard_id << 10 | seq_id, in a bigint that must stay positive
    ('instagram', ((ms - 1314220021721) << 23) | (1341 << 10) | 905, 1),
    -- Sonyflake: elapsedTime << 24 | sequence << 16 | machineID, elapsedTime = time / 10 ms since 2014-09-01
    ('sonyflake', ((ms / 10 - 140952960000) << 24) | (200 << 16) | 51109, 10),
    -- pgEdge's snowflake.c: msec << 22 | node << 12 | count, msec since 1672531200 s
    ('pgedge', ((ms - 1672531200000) << 22) | (42 << 12) | 4095, 1),
    ('discord', ((ms - 1420070400000) << 22) | (1 << 17) | (2 << 12) | 3, 1)
) AS composed (preset, id, tick), LATERAL idgen_decode(id, preset);
DROP SCHEMA published CASCADE;
