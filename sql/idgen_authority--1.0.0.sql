-- complain if script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION idgen_authority CASCADE" to load this file. \quit

-- The authority's side for its members: the book of machine ids, and the functions that members call. In a schema of its own, into which
-- nobody else can have put anything.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'idgen_authority' AND NOT r.rolsuper)
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = 'schema "idgen_authority" belongs to a role that is no superuser',
            HINT = 'Drop or rename it: the extension makes a schema of its own.';
    END IF;
END;
$$;

-- The book: the last grant of each machine id. Times are microseconds since 1970.

CREATE TABLE @extschema@.book (
    machine bigint PRIMARY KEY CHECK (machine OPERATOR(pg_catalog.>=) 0),
    host text,
    role name,
    system bigint NOT NULL,
    timeline bigint NOT NULL,
    nonce bigint NOT NULL,
    epoch bigint NOT NULL,
    starts bigint NOT NULL,
    ends bigint NOT NULL CHECK (ends OPERATOR(pg_catalog.>=) starts),
    open boolean NOT NULL,
    taken bigint NOT NULL,
    seen bigint NOT NULL,
    token bigint NOT NULL,
    shown bigint NOT NULL,
    attempt bigint NOT NULL
);
COMMENT ON TABLE @extschema@.book IS
'the last grant of each machine id; written by the worker "idgen book" for members, and read through grants()';

-- Tells this book from any other, and whether it may have lost entries.

CREATE TABLE @extschema@.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id bigint NOT NULL,
    system bigint NOT NULL,
    database oid NOT NULL,
    relation oid NOT NULL,
    settles bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    confirmed bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE @extschema@.state IS
'the number of the book, where it was made, and before which time no grant may begin since others may not be known';

REVOKE ALL ON @extschema@.book, @extschema@.state FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.book'::pg_catalog.regclass, ''::pg_catalog.text);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.state'::pg_catalog.regclass, ''::pg_catalog.text);

CREATE FUNCTION confirm_book() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO @extschema@.state (id, system, database, relation, settles, confirmed)
    SELECT hashtextextended(gen_random_uuid()::text, 0), system_identifier, d.oid, '@extschema@.book'::regclass, 0,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    FROM pg_control_system(), pg_database d WHERE d.datname = current_database()
    ON CONFLICT (one) DO UPDATE SET (system, database, relation, settles, confirmed)
        = ROW (excluded.system, excluded.database, excluded.relation, 0, excluded.confirmed);
$$;
COMMENT ON FUNCTION confirm_book() IS
'says that no server has a machine id that grants() does not show, so that others are granted at once: for a new fleet, and after a restore';
REVOKE ALL ON FUNCTION confirm_book() FROM PUBLIC;

CREATE FUNCTION grants(
    OUT machine_id integer, -- the number in the ids
    OUT host text, -- the machine of the server that has it, as it calls itself
    OUT role name, -- the role under which that server asks
    OUT incarnation text, -- system identifier, timeline and data directory of that server; null: reserved
    OUT epoch bigint, -- the number of the grant, over all of them
    OUT starts timestamptz, -- the server gives no id of an earlier time
    OUT ends timestamptz, -- nor an id of this time or later, unless it renews
    OUT held boolean, -- false: it was given back
    OUT last_seen timestamptz -- when the server asked last, by the clock of the authority
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.machine::integer, b.host, b.role,
        CASE WHEN b.system <> 0 THEN format('%s/%s/%s', b.system, b.timeline, to_hex(b.nonce)) END,
        b.epoch, to_timestamp(b.starts / 1000000.0),
        CASE WHEN b.ends < 9223372036854775807 THEN to_timestamp(b.ends / 1000000.0) ELSE 'infinity' END,
        b.open, to_timestamp(b.seen / 1000000.0)
    FROM @extschema@.book b;
$$;
COMMENT ON FUNCTION grants() IS 'who has, or had, which machine id until when';
REVOKE ALL ON FUNCTION grants() FROM PUBLIC;
GRANT USAGE ON SCHEMA @extschema@ TO pg_monitor;
GRANT EXECUTE ON FUNCTION grants() TO pg_monitor;

CREATE FUNCTION reserve_machine(machine integer, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held @extschema@.book;
BEGIN
    IF machine IS NULL OR machine NOT BETWEEN 0 AND 1023 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('machine id out of range: %s', coalesce(machine::text, 'NULL')), HINT = 'Machine ids are 0 to 1023.';
    END IF;
    LOCK TABLE @extschema@.book IN EXCLUSIVE MODE;
    SELECT * INTO held FROM @extschema@.book b
    WHERE b.machine = reserve_machine.machine AND b.open AND b.ends > extract(epoch FROM clock_timestamp()) * 1000000;
    IF FOUND THEN
        RAISE object_in_use USING
            MESSAGE = format('machine id %s is granted', machine),
            DETAIL = format('Server %s has it until %s, or longer.', coalesce(quote_nullable(held.host), ''), to_timestamp(held.ends / 1000000.0)),
            HINT = 'SELECT idgen_release_machine() there gives it back.';
    END IF;
    INSERT INTO @extschema@.book AS b (machine, host, system, timeline, nonce, epoch, starts, ends, open, taken, seen, token, shown, attempt)
    VALUES (machine, note, 0, 0, 0, 0, 0, 9223372036854775807, false, 0, 0, 0, 0, 0)
    ON CONFLICT ON CONSTRAINT book_pkey DO UPDATE SET
        host = note, role = NULL, system = 0, timeline = 0, nonce = 0, ends = 9223372036854775807, open = false, token = 0, shown = 0, attempt = 0;
END;
$$;
COMMENT ON FUNCTION reserve_machine(integer, text) IS
'keeps a machine id from being granted, because a server has it by its setting';

CREATE FUNCTION unreserve_machine(machine integer, since timestamptz DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    since := coalesce(since, clock_timestamp() + interval '1 hour');
    IF NOT isfinite(since) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the time must be finite', HINT = 'No id of the server that had the number may be later.';
    END IF;
    UPDATE @extschema@.book b SET ends = greatest(b.starts, (extract(epoch FROM since) * 1000000)::bigint)
    WHERE b.machine = unreserve_machine.machine AND b.ends = 9223372036854775807;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value USING MESSAGE = format('machine id %s is not reserved', coalesce(machine::text, 'NULL'));
    END IF;
END;
$$;
COMMENT ON FUNCTION unreserve_machine(integer, timestamptz) IS
'lets a reserved machine id be granted from that time on, if none is given in an hour: no id of the server that had it may be later';
REVOKE ALL ON FUNCTION reserve_machine(integer, text), unreserve_machine(integer, timestamptz) FROM PUBLIC;

-- The functions that members call. allow_member() says which of them a member may call.

CREATE FUNCTION grant_machine(cluster text, question text, host text) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_grant_machine_wrapper';
COMMENT ON FUNCTION grant_machine(text, text, text) IS
'for members: takes, renews or gives back a machine id; answered once that is on disk and on the synchronous standbys';

CREATE FUNCTION allocate(cluster text, schema text, name text, definition text, want bigint) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_allocate_wrapper';
COMMENT ON FUNCTION allocate(text, text, text, text, bigint) IS
'for members: strict ids, of the generator with that name or of idgen_next(); needs USAGE on the generator';

CREATE FUNCTION lease_block(cluster text, schema text, name text, definition text, want bigint) RETURNS text
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'idgen_lease_block_wrapper';
COMMENT ON FUNCTION lease_block(text, text, text, text, bigint) IS
'for members: a block of a counter; needs USAGE on the generator';

REVOKE ALL ON FUNCTION grant_machine(text, text, text),
    allocate(text, text, text, text, bigint),
    lease_block(text, text, text, text, bigint) FROM PUBLIC;

CREATE FUNCTION allow_member(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        @extschema@.grant_machine(text, text, text),
        @extschema@.allocate(text, text, text, text, bigint),
        @extschema@.lease_block(text, text, text, text, bigint) TO %s', role);
END;
$$;
COMMENT ON FUNCTION allow_member(regrole) IS
'lets the role take machine ids, strict ids and blocks for a server, and nothing else; for strict ids and blocks of generators it needs USAGE on them as well';

CREATE FUNCTION forbid_member(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('REVOKE USAGE ON SCHEMA @extschema@ FROM %s', role);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION
        @extschema@.grant_machine(text, text, text),
        @extschema@.allocate(text, text, text, text, bigint),
        @extschema@.lease_block(text, text, text, text, bigint) FROM %s', role);
END;
$$;
COMMENT ON FUNCTION forbid_member(regrole) IS
'takes back what allow_member() gave; what servers of the role hold they hold to its end';
REVOKE ALL ON FUNCTION allow_member(regrole), forbid_member(regrole) FROM PUBLIC;
