-- The router: no rows of its own, all shards as one table.

CREATE EXTENSION idgen;
CREATE EXTENSION postgres_fdw;

CREATE SERVER shard1 FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'sockets', port '5401', fetch_size '10000');
CREATE SERVER shard2 FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'sockets', port '5402', fetch_size '10000');
CREATE SERVER shard3 FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'sockets', port '5403', fetch_size '10000');
CREATE USER MAPPING FOR PUBLIC SERVER shard1 OPTIONS (user 'postgres');
CREATE USER MAPPING FOR PUBLIC SERVER shard2 OPTIONS (user 'postgres');
CREATE USER MAPPING FOR PUBLIC SERVER shard3 OPTIONS (user 'postgres');

-- The DEFAULT is needed here too: postgres_fdw sends every column of a row, so the shard's own default never applies.
CREATE TABLE flights (
    id bigint DEFAULT idgen_next() NOT NULL,
    scheduled timestamptz NOT NULL,
    carrier text NOT NULL,
    flight int NOT NULL,
    tailnum text,
    origin text NOT NULL,
    dest text NOT NULL,
    departure_delay int,
    arrival_delay int,
    air_time int,
    distance int
) PARTITION BY LIST (origin);
CREATE FOREIGN TABLE flights_ewr PARTITION OF flights FOR VALUES IN ('EWR') SERVER shard1 OPTIONS (table_name 'flights');
CREATE FOREIGN TABLE flights_jfk PARTITION OF flights FOR VALUES IN ('JFK') SERVER shard2 OPTIONS (table_name 'flights');
CREATE FOREIGN TABLE flights_lga PARTITION OF flights FOR VALUES IN ('LGA') SERVER shard3 OPTIONS (table_name 'flights');

CREATE TABLE flights_identity (LIKE flights) PARTITION BY LIST (origin);
CREATE FOREIGN TABLE flights_identity_ewr PARTITION OF flights_identity FOR VALUES IN ('EWR') SERVER shard1 OPTIONS (table_name 'flights_identity');
CREATE FOREIGN TABLE flights_identity_jfk PARTITION OF flights_identity FOR VALUES IN ('JFK') SERVER shard2 OPTIONS (table_name 'flights_identity');
CREATE FOREIGN TABLE flights_identity_lga PARTITION OF flights_identity FOR VALUES IN ('LGA') SERVER shard3 OPTIONS (table_name 'flights_identity');
