-- complain if script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION idgen_authority CASCADE" to load this file. \quit

-- What an authority is to its members: the book of machine ids, and the functions that members call. In a schema of its
-- own, in which nobody else may have put anything.

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
    system bigint NOT NULL,
    timeline bigint NOT NULL,
    nonce bigint NOT NULL,
    epoch bigint NOT NULL,
    starts bigint NOT NULL,
    ends bigint NOT NULL CHECK (ends OPERATOR(pg_catalog.>=) starts),
    open boolean NOT NULL,
    request bigint NOT NULL,
    seen bigint NOT NULL
);
COMMENT ON TABLE @extschema@.book IS
'the last grant of each machine id; written by the functions that members call, and read through grants()';
REVOKE ALL ON @extschema@.book FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.book'::pg_catalog.regclass, ''::pg_catalog.text);

CREATE FUNCTION grants(
    OUT machine_id integer, -- the number in the ids
    OUT host text, -- the machine of the server that has it, as it calls itself
    OUT incarnation text, -- system identifier, timeline and data directory of that server; null: reserved
    OUT epoch bigint, -- the number of the grant, over all of them
    OUT starts timestamptz, -- the server gives no id of an earlier time
    OUT ends timestamptz, -- nor one of this time or later, unless it renews
    OUT held boolean, -- false: it was given back
    OUT last_seen timestamptz -- when the server asked last, by the clock of the authority
) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.machine::integer, b.host,
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
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO @extschema@.book (machine, host, system, timeline, nonce, epoch, starts, ends, open, request, seen)
    VALUES (machine, note, 0, 0, 0, 0, 0, 9223372036854775807, false, 0, 0);
$$;
COMMENT ON FUNCTION reserve_machine(integer, text) IS
'keeps a machine id from being granted, because a server has it by its setting';
REVOKE ALL ON FUNCTION reserve_machine(integer, text) FROM PUBLIC;

-- What members call. Which of these a member may call is said by allow_member(). A member waits no longer than two
-- seconds, and asks again: the book must not be waited for longer than that, or sessions would pile up.

CREATE FUNCTION take_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, request bigint, host text) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idgen_take_grant_wrapper';
COMMENT ON FUNCTION take_grant(text, bigint, integer, bigint, bigint, bigint, text) IS
'for members: a machine id that is free, with its grant';

CREATE FUNCTION renew_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, machine bigint, epoch bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idgen_renew_grant_wrapper';
COMMENT ON FUNCTION renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint) IS
'for members: a later end of a grant; null if it is not held any more';

CREATE FUNCTION end_grant(cluster text, system bigint, timeline integer, nonce bigint, clock bigint, machine bigint, epoch bigint, reached bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET lock_timeout = '1s'
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idgen_end_grant_wrapper';
COMMENT ON FUNCTION end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint) IS
'for members: gives a machine id back; null if it was not held';

CREATE FUNCTION look_up_grant(machine bigint) RETURNS text
LANGUAGE c VOLATILE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'idgen_look_up_grant_wrapper';
COMMENT ON FUNCTION look_up_grant(bigint) IS
'for members: the grant of a machine id, once it is on disk and on the synchronous standbys';

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

REVOKE ALL ON FUNCTION take_grant(text, bigint, integer, bigint, bigint, bigint, text),
    renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint),
    end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint),
    look_up_grant(bigint),
    allocate(text, text, text, text, bigint),
    lease_block(text, text, text, text, bigint) FROM PUBLIC;

CREATE FUNCTION allow_member(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %s', role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION
        @extschema@.take_grant(text, bigint, integer, bigint, bigint, bigint, text),
        @extschema@.renew_grant(text, bigint, integer, bigint, bigint, bigint, bigint),
        @extschema@.end_grant(text, bigint, integer, bigint, bigint, bigint, bigint, bigint),
        @extschema@.look_up_grant(bigint),
        @extschema@.allocate(text, text, text, text, bigint),
        @extschema@.lease_block(text, text, text, text, bigint) TO %s', role);
END;
$$;
COMMENT ON FUNCTION allow_member(regrole) IS
'lets the role take machine ids, strict ids and blocks for a server, and nothing else; for strict ids and blocks of generators it needs USAGE on them as well';
REVOKE ALL ON FUNCTION allow_member(regrole) FROM PUBLIC;
