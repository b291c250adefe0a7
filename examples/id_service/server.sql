-- On each id server, once, as a superuser: psql -d postgres -f server.sql

CREATE DATABASE ids;
\connect ids
CREATE EXTENSION idgen;
REVOKE CONNECT, TEMPORARY ON DATABASE ids FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION idgen_next(), idgen_next_many(int) FROM PUBLIC;

-- Clients take ids, and nothing else.
CREATE ROLE ids LOGIN PASSWORD 'change-me';
GRANT CONNECT ON DATABASE ids TO ids;
GRANT EXECUTE ON FUNCTION idgen_next(), idgen_next_many(int) TO ids;

-- HAProxy comes without a password, and so could anyone who goes through it: this role learns whether there are ids, but
-- gets none.
CREATE FUNCTION gives_ids() RETURNS boolean LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    SELECT idgen_next() > 0;
END;
REVOKE EXECUTE ON FUNCTION gives_ids() FROM PUBLIC;
CREATE ROLE ids_check LOGIN CONNECTION LIMIT 10;
GRANT CONNECT ON DATABASE ids TO ids_check;
GRANT EXECUTE ON FUNCTION gives_ids() TO ids_check;
