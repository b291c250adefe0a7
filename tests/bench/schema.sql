-- What the bench compares. :floor is the compiled floor.c.
CREATE EXTENSION idgen;

CREATE FUNCTION bench_empty() RETURNS bigint LANGUAGE c VOLATILE PARALLEL SAFE AS :'floor';
CREATE FUNCTION bench_clock() RETURNS bigint LANGUAGE c VOLATILE PARALLEL SAFE AS :'floor';
CREATE FUNCTION bench_exchange() RETURNS bigint LANGUAGE c VOLATILE PARALLEL SAFE AS :'floor';
CREATE FUNCTION bench_floor() RETURNS bigint LANGUAGE c VOLATILE PARALLEL SAFE AS :'floor';

CREATE SEQUENCE plain;
SELECT idgen_create_generator('snowflake', 'snowflake');
SELECT idgen_create_generator('counter_1000', 'counter');
SELECT idgen_create_generator('counter_10000', 'counter', flush_every => 10000);
-- Wide sequences, so that no loan is needed; timestamp_machine_backend itself gives 64 ids a millisecond.
SELECT idgen_create_generator('wide', timestamp_bits => 41, machine_bits => 6, sequence_bits => 16);
SELECT idgen_create_generator('streams', timestamp_bits => 41, machine_bits => 1, backend_bits => 8, sequence_bits => 13);

-- As published in 2012, with the table's sequence and a shard id of 5.
CREATE SEQUENCE instagram_sequence;
CREATE FUNCTION instagram(OUT result bigint) LANGUAGE plpgsql AS $$
DECLARE
    our_epoch bigint := 1314220021721;
    seq_id bigint;
    now_millis bigint;
    shard_id int := 5;
BEGIN
    SELECT nextval('instagram_sequence') % 1024 INTO seq_id;
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000) INTO now_millis;
    result := (now_millis - our_epoch) << 23;
    result := result | (shard_id << 10);
    result := result | (seq_id);
END;
$$;

-- A UUID of version 7 for PostgreSQL without its own: the first 48 bits of a random UUID become milliseconds.
CREATE FUNCTION uuid_v7_in_sql() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
