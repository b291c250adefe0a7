-- complain if script is sourced in psql rather than by ALTER EXTENSION
\echo Use "ALTER EXTENSION idgen UPDATE TO '0.3.0'" to load this file. \quit

-- Generators over several servers.

DROP FUNCTION idgen_create_generator(text, text, integer, integer, integer, integer, timestamptz, interval, bigint, name);

CREATE FUNCTION idgen_create_generator(
    name text, preset text DEFAULT NULL,
    timestamp_bits integer DEFAULT NULL, machine_bits integer DEFAULT 0,
    backend_bits integer DEFAULT 0, sequence_bits integer DEFAULT 0,
    epoch timestamptz DEFAULT '2025-01-01 00:00:00+00', tick interval DEFAULT '1 ms',
    flush_every bigint DEFAULT NULL, schema name DEFAULT current_schema(),
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
    IF ordering = 'block' THEN
        -- What is dense over all servers has no machine id.
        definition := regexp_replace(definition, '^counter:53 machine:10', 'counter:63');
    END IF;
    IF ordering <> 'server' AND definition NOT LIKE '% order:%' THEN
        definition := definition || ' order:' || ordering;
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
COMMENT ON FUNCTION idgen_create_generator(text, text, integer, integer, integer, integer, timestamptz, interval, bigint, name, text) IS
'makes a generator: a sequence that is dropped, renamed, granted and dumped as any other, whose ids idgen_next(generator) gives; by preset, or by bits from the highest down, epoch and tick; ordering is server, gossip, strict or, for a counter, block';

-- The book of an authority: the last grant of each machine id. Times are microseconds since 1970.

CREATE TABLE idgen_book (
    machine bigint PRIMARY KEY CHECK (machine >= 0),
    host text,
    system bigint NOT NULL,
    timeline bigint NOT NULL,
    nonce bigint NOT NULL,
    epoch bigint NOT NULL,
    starts bigint NOT NULL,
    ends bigint NOT NULL CHECK (ends >= starts),
    open boolean NOT NULL,
    request bigint NOT NULL,
    seen bigint NOT NULL
);
COMMENT ON TABLE idgen_book IS
'on an authority: the last grant of each machine id; written by the functions that members call, and read through idgen_grants';
REVOKE ALL ON idgen_book FROM PUBLIC;
SELECT pg_extension_config_dump('idgen_book', '');

CREATE VIEW idgen_grants AS
    SELECT b.machine::integer AS machine_id, b.host,
        CASE WHEN b.system <> 0 THEN format('%s/%s/%s', b.system, b.timeline, to_hex(b.nonce)) END AS incarnation,
        b.epoch, to_timestamp(b.starts / 1000000.0) AS starts,
        CASE WHEN b.ends < 9223372036854775807 THEN to_timestamp(b.ends / 1000000.0) ELSE 'infinity' END AS ends,
        b.open AS held, to_timestamp(b.seen / 1000000.0) AS last_seen
    FROM idgen_book b;
COMMENT ON VIEW idgen_grants IS 'on an authority: who has, or had, which machine id until when';
COMMENT ON COLUMN idgen_grants.machine_id IS 'the number in the ids';
COMMENT ON COLUMN idgen_grants.host IS 'the machine of the server that has it, as it calls itself';
COMMENT ON COLUMN idgen_grants.incarnation IS 'system identifier, timeline and data directory of that server; null: reserved';
COMMENT ON COLUMN idgen_grants.epoch IS 'the number of the grant, over all of them';
COMMENT ON COLUMN idgen_grants.starts IS 'the server gives no id of an earlier time';
COMMENT ON COLUMN idgen_grants.ends IS 'nor one of this time or later, unless it renews';
COMMENT ON COLUMN idgen_grants.held IS 'false: it was given back';
COMMENT ON COLUMN idgen_grants.last_seen IS 'when the server asked last, by the clock of the authority';
GRANT SELECT ON idgen_grants TO pg_monitor;

CREATE FUNCTION idgen_reserve_machine(machine integer, note text DEFAULT NULL) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO idgen_book (machine, host, system, timeline, nonce, epoch, starts, ends, open, request, seen)
    VALUES (machine, note, 0, 0, 0, 0, 0, 9223372036854775807, false, 0, 0);
END;
COMMENT ON FUNCTION idgen_reserve_machine(integer, text) IS
'on an authority: keeps a machine id from being granted, because a server has it by its setting';
REVOKE ALL ON FUNCTION idgen_reserve_machine(integer, text) FROM PUBLIC;

-- What members call. Which of these a member may call is said by idgen_allow_member(). A member waits no longer than two
-- seconds, and asks again: the book must not be waited for longer than that, or sessions would pile up.

CREATE FUNCTION idgen_take_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, request bigint, host text) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = @extschema@, pg_temp
AS 'MODULE_PATHNAME', 'idgen_take_grant_wrapper';
COMMENT ON FUNCTION idgen_take_grant(text, bigint, integer, bigint, bigint, bigint, text) IS
'for members: a machine id that is free, with its grant';

CREATE FUNCTION idgen_renew_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, machine bigint, epoch bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = @extschema@, pg_temp
AS 'MODULE_PATHNAME', 'idgen_renew_grant_wrapper';
COMMENT ON FUNCTION idgen_renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint) IS
'for members: a later end of a grant; null if it is not held any more';

CREATE FUNCTION idgen_end_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, machine bigint, epoch bigint, reached bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = @extschema@, pg_temp
AS 'MODULE_PATHNAME', 'idgen_end_grant_wrapper';
COMMENT ON FUNCTION idgen_end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint) IS
'for members: gives a machine id back; null if it was not held';

CREATE FUNCTION idgen_look_up_grant(machine bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET search_path = @extschema@, pg_temp
AS 'MODULE_PATHNAME', 'idgen_look_up_grant_wrapper';
COMMENT ON FUNCTION idgen_look_up_grant(bigint) IS
'for members: the grant of a machine id, once it is on disk and on the synchronous standbys';

CREATE FUNCTION idgen_allocate(cluster text, schema text, name text, definition text, want bigint) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_allocate_wrapper';
COMMENT ON FUNCTION idgen_allocate(text, text, text, text, bigint) IS
'for members: strict ids, of the generator with that name or of idgen_next(); needs USAGE on the generator';

CREATE FUNCTION idgen_lease_block(cluster text, schema text, name text, definition text, want bigint) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_lease_block_wrapper';
COMMENT ON FUNCTION idgen_lease_block(text, text, text, text, bigint) IS
'for members: a block of a counter; needs USAGE on the generator';

REVOKE ALL ON FUNCTION idgen_take_grant(text, bigint, integer, bigint, bigint, bigint, text),
    idgen_renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint),
    idgen_end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint),
    idgen_look_up_grant(bigint),
    idgen_allocate(text, text, text, text, bigint),
    idgen_lease_block(text, text, text, text, bigint) FROM PUBLIC;

CREATE FUNCTION idgen_allow_member(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_take_grant(text, bigint, integer, bigint, bigint, bigint, text) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_look_up_grant(bigint) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_allocate(text, text, text, text, bigint) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_lease_block(text, text, text, text, bigint) TO ' || role;
    EXECUTE 'GRANT EXECUTE ON FUNCTION @extschema@.idgen_gossip(text, text) TO ' || role;
END;
$$;
COMMENT ON FUNCTION idgen_allow_member(regrole) IS
'on an authority: lets the role take machine ids, strict ids and blocks for a server, and nothing else; for strict ids and blocks of generators it needs USAGE on them as well';
REVOKE ALL ON FUNCTION idgen_allow_member(regrole) FROM PUBLIC;

-- On a member.

CREATE FUNCTION idgen_authority(
    OUT host text, OUT connected boolean, OUT round_trip interval, OUT error text, OUT machine_id integer,
    OUT epoch bigint, OUT starts timestamptz, OUT ends timestamptz, OUT worker_pid integer) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'idgen_authority_wrapper';
COMMENT ON FUNCTION idgen_authority() IS
'what the view idgen_authority shows';

CREATE VIEW idgen_authority AS SELECT * FROM idgen_authority();
COMMENT ON VIEW idgen_authority IS 'how this server stands with its authority, one row';
COMMENT ON COLUMN idgen_authority.host IS 'the host that was tried last';
COMMENT ON COLUMN idgen_authority.connected IS 'whether it has answered on this connection';
COMMENT ON COLUMN idgen_authority.round_trip IS 'from the last question to its answer';
COMMENT ON COLUMN idgen_authority.error IS 'what is in the way, if anything is';
COMMENT ON COLUMN idgen_authority.machine_id IS 'the machine id that is granted, null if none is';
COMMENT ON COLUMN idgen_authority.epoch IS 'the number of the grant';
COMMENT ON COLUMN idgen_authority.starts IS 'no id of an earlier time is given under it';
COMMENT ON COLUMN idgen_authority.ends IS 'nor one of this time or later, unless it is renewed; that begins when half of it has passed';
COMMENT ON COLUMN idgen_authority.worker_pid IS 'the process that has the connection';
REVOKE ALL ON FUNCTION idgen_authority() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idgen_authority() TO pg_monitor;
GRANT SELECT ON idgen_authority TO pg_monitor;

CREATE FUNCTION idgen_release_machine() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_release_machine_wrapper';
COMMENT ON FUNCTION idgen_release_machine() IS
'gives the granted machine id back; no ids are given from then on, until idgen_take_machine() or a restart';
REVOKE ALL ON FUNCTION idgen_release_machine() FROM PUBLIC;

CREATE FUNCTION idgen_take_machine() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_take_machine_wrapper';
COMMENT ON FUNCTION idgen_take_machine() IS
'has a machine id granted again after idgen_release_machine()';
REVOKE ALL ON FUNCTION idgen_take_machine() FROM PUBLIC;

COMMENT ON COLUMN idgen_status.machine_id IS 'the machine id in force: the setting, or what an authority granted; null if there is none';

-- Gossip.

CREATE FUNCTION idgen_peers(
    OUT host text, OUT server text, OUT machine_id integer, OUT state text, OUT clock_offset interval,
    OUT round_trip interval, OUT last_heard interval, OUT order_bound interval, OUT error text) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
AS 'MODULE_PATHNAME', 'idgen_peers_wrapper';
COMMENT ON FUNCTION idgen_peers() IS
'what the view idgen_peers shows';

CREATE VIEW idgen_peers AS SELECT * FROM idgen_peers();
COMMENT ON VIEW idgen_peers IS 'how this server stands with its peers, and with servers that they have heard of';
COMMENT ON COLUMN idgen_peers.host IS 'the host of idgen.peers, null: only heard of';
COMMENT ON COLUMN idgen_peers.server IS 'system identifier, timeline and data directory, as in the log';
COMMENT ON COLUMN idgen_peers.machine_id IS 'its machine id';
COMMENT ON COLUMN idgen_peers.state IS 'heard; outlier: its clock is too far from the others'' to be followed; unknown: it never answered';
COMMENT ON COLUMN idgen_peers.clock_offset IS 'how far its wall clock is ahead of the one here';
COMMENT ON COLUMN idgen_peers.round_trip IS 'from the last question to its answer';
COMMENT ON COLUMN idgen_peers.last_heard IS 'how long ago it was alive for sure';
COMMENT ON COLUMN idgen_peers.order_bound IS 'every id given here is above those that it gave longer ago than this; null: the order is unknown';
COMMENT ON COLUMN idgen_peers.error IS 'why it cannot be asked';
REVOKE ALL ON FUNCTION idgen_peers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idgen_peers() TO pg_monitor;
GRANT SELECT ON idgen_peers TO pg_monitor;

CREATE FUNCTION idgen_gossip(cluster text, message text) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_gossip_wrapper';
COMMENT ON FUNCTION idgen_gossip(text, text) IS
'for members: what this server and those that it heard of did last';
REVOKE ALL ON FUNCTION idgen_gossip(text, text) FROM PUBLIC;

CREATE FUNCTION idgen_take_over() RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'idgen_take_over_wrapper';
COMMENT ON FUNCTION idgen_take_over() IS
'of two servers with one machine id, has this one go on and the other refuse';
REVOKE ALL ON FUNCTION idgen_take_over() FROM PUBLIC;

CREATE FUNCTION idgen_observe(id bigint) RETURNS void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_observe_wrapper';
COMMENT ON FUNCTION idgen_observe(bigint) IS
'has idgen_next() go on above an id that came from elsewhere, if that is not further than idgen.max_clock_offset ahead of the wall clock';
REVOKE ALL ON FUNCTION idgen_observe(bigint) FROM PUBLIC;
