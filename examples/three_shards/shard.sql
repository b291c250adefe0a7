-- A shard: its flights get their ids from idgen.

CREATE EXTENSION idgen;

CREATE TABLE flights (
    id bigint DEFAULT idgen_next() PRIMARY KEY,
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
);

-- For comparison, the same with what PostgreSQL has.
CREATE TABLE flights_identity (LIKE flights, PRIMARY KEY (id));
ALTER TABLE flights_identity ALTER id ADD GENERATED ALWAYS AS IDENTITY;
