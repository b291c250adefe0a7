-- What an id says, and the ids of an instant.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS idgen;
\set VERBOSITY sqlstate
SET TimeZone = 'UTC';

SELECT * FROM idgen_decode(0);
SELECT * FROM idgen_decode((1 << 22) | (3 << 12) | 7);
SELECT * FROM idgen_decode(9223372036854775807);
SELECT idgen_timestamp(4194304), idgen_machine(4194304 | (1023 << 12)), idgen_sequence(4095);
SELECT idgen_timestamp(NULL), idgen_machine(NULL), idgen_sequence(NULL), idgen_min_id(NULL), idgen_max_id(NULL);
SELECT idgen_timestamp(-1);
SELECT idgen_machine(-1);
SELECT idgen_sequence(-9223372036854775808);
SELECT * FROM idgen_decode(-1);

SELECT idgen_min_id('2025-01-01'), idgen_max_id('2025-01-01');
SELECT idgen_min_id('2025-01-01 00:00:00.001999'), idgen_max_id('2025-01-01 00:00:00.001');
SELECT idgen_max_id('2094-09-07 15:47:35.551');
-- Outside the layout: the nearest number of which >= and <= are true.
SELECT idgen_min_id('2024-12-31 23:59:59.999999');
SELECT idgen_max_id('2024-12-31 23:59:59.999999'), idgen_max_id('-infinity'), idgen_max_id('infinity');
SELECT idgen_max_id('2094-09-07 15:47:35.552');
SELECT idgen_min_id('infinity');
SELECT idgen_min_id('-infinity');
SELECT idgen_min_id('4000 BC');

-- An id of now lies between the bounds of now, whatever the time zone of the session is.
SELECT bool_and(id BETWEEN idgen_min_id(idgen_timestamp(id)) AND idgen_max_id(idgen_timestamp(id))) AS within,
    bool_and(abs(extract(epoch FROM clock_timestamp() - idgen_timestamp(id))) < 60) AS of_now,
    bool_and(idgen_machine(id) = current_setting('idgen.machine_id')::int) AS of_this_machine
FROM idgen_next_many(1000) AS id;
CREATE TEMP TABLE zones AS SELECT idgen_min_id('2026-07-01 12:00:00+00') AS id;
SET TimeZone = 'Asia/Kathmandu';
INSERT INTO zones SELECT idgen_min_id('2026-07-01 12:00:00+00');
SELECT count(DISTINCT id), min(idgen_timestamp(id)) FROM zones;
SET TimeZone = 'UTC';

-- An index on the time in an id serves ranges of time.
CREATE TABLE events (id bigint PRIMARY KEY, n int);
INSERT INTO events SELECT idgen_min_id('2026-01-01'::timestamptz + n * interval '1 minute'), n FROM generate_series(0, 9999) n;
CREATE INDEX events_time ON events (idgen_timestamp(id));
ANALYZE events;
EXPLAIN (COSTS OFF) SELECT n FROM events WHERE idgen_timestamp(id) BETWEEN '2026-01-02' AND '2026-01-02 00:10';
SELECT n FROM events WHERE idgen_timestamp(id) BETWEEN '2026-01-02' AND '2026-01-02 00:02' ORDER BY n;
-- And the key itself does.
EXPLAIN (COSTS OFF) SELECT n FROM events WHERE id >= idgen_min_id('2026-01-07 22:00') AND id < idgen_min_id('2026-01-07 23:00');
DROP TABLE events;

-- Partitions by time are pruned by the bounds of an instant: at plan time, and with now() when the query starts.
SELECT idgen_min_id('2026-01-01') AS y2026, idgen_min_id('2027-01-01') AS y2027 \gset
CREATE TABLE logs (id bigint DEFAULT idgen_next() PRIMARY KEY, line text) PARTITION BY RANGE (id);
CREATE TABLE logs_2025 PARTITION OF logs FOR VALUES FROM (0) TO (:y2026);
CREATE TABLE logs_2026 PARTITION OF logs FOR VALUES FROM (:y2026) TO (:y2027);
CREATE TABLE logs_later PARTITION OF logs FOR VALUES FROM (:y2027) TO (MAXVALUE);
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM logs WHERE id >= idgen_min_id('2025-12-31') AND id < idgen_min_id('2026-02-01');
EXPLAIN (COSTS OFF) SELECT * FROM logs WHERE id >= idgen_min_id('2027-06-01');
EXPLAIN (COSTS OFF) SELECT * FROM logs WHERE id <= idgen_max_id('2025-01-01');
CREATE FUNCTION pruned(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line ~ 'Subplans Removed' THEN
            RETURN trim(line);
        END IF;
    END LOOP;
    RETURN 'nothing removed';
END;
$$;
SELECT pruned('SELECT * FROM logs WHERE id >= idgen_min_id(now() - interval ''1 day'')') <> 'nothing removed' AS pruned;
INSERT INTO logs (line) SELECT 'line' FROM generate_series(1, 100);
COPY logs (line) FROM STDIN;
copied
copied
\.
SELECT count(*), count(DISTINCT id) FROM logs WHERE id >= idgen_min_id(now() - interval '1 day');
DROP TABLE logs;
DROP FUNCTION pruned;
DROP TABLE zones;
