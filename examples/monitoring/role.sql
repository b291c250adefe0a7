-- The role as which the exporter asks: psql -d DATABASE -f role.sql, as a superuser, in each database that is watched; on
-- an authority also in idgen.authority_database. It can be run again. It may look at the server and at no table of yours.

SELECT 'CREATE ROLE idgen_monitor LOGIN CONNECTION LIMIT 10' WHERE to_regrole('idgen_monitor') IS NULL
\gexec
GRANT pg_monitor TO idgen_monitor;

-- A query that waits is worse than one that is missing.
ALTER ROLE idgen_monitor SET lock_timeout = '1s';
ALTER ROLE idgen_monitor SET statement_timeout = '10s';
ALTER ROLE idgen_monitor SET default_transaction_read_only = on;

-- The queries name functions without a schema: nobody else's can be meant.
SELECT format('ALTER ROLE idgen_monitor IN DATABASE %I SET search_path = pg_catalog, %s', current_database(), extnamespace::regnamespace),
    format('GRANT USAGE ON SCHEMA %s TO idgen_monitor', extnamespace::regnamespace)
FROM pg_extension WHERE extname = 'idgen'
\gexec

-- How many places for replication origins are taken.
GRANT EXECUTE ON FUNCTION pg_show_replication_origin_status() TO idgen_monitor;

-- Until when an authority grants nothing.
SELECT 'GRANT SELECT ON idgen_authority.state TO idgen_monitor' WHERE to_regclass('idgen_authority.state') IS NOT NULL
\gexec
