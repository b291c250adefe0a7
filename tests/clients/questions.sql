-- What the code in docs/clients.md is asked, and what this server answers with the key in the file of idgen.opaque_key_file:
-- function, argument, :key in hexadecimal, answer; separated by tabs. Texts are asked in hexadecimal too.
SET TimeZone = UTC;

CREATE FUNCTION pg_temp.read(reader regprocedure, text text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE id bigint;
BEGIN
    EXECUTE format('SELECT %s($1)', reader::regproc) INTO id USING text;
    RETURN id;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'refused';
END $$;

CREATE TEMP TABLE ids AS
    SELECT unnest('{0, 1, 31, 32, 4095, 4096, 4194303, 4194304, 9007199254740993, 9223372036854775807}'::bigint[]) AS id
    UNION ALL SELECT idgen_next() FROM generate_series(1, 100)
    UNION ALL SELECT hashint8extended(n, 0) & 9223372036854775807 FROM generate_series(1, 200) n;

-- Texts of ids and of other 64-bit numbers, as they are made and as they are read; and what is none.
CREATE TEMP TABLE texts AS
    WITH made AS (
        SELECT idgen_to_text(id) AS text FROM ids
        UNION ALL SELECT idgen_to_opaque(id) FROM ids
        UNION ALL SELECT overlay(idgen_to_text(id) PLACING substr('0123456789ABCDEFGHILOQZ', 1 + (id % 23)::int, 1) FROM 1 FOR 1) FROM ids
    )
    SELECT text FROM made
    UNION ALL SELECT lower(translate(text, '10', 'lo')) FROM made
    UNION ALL SELECT translate(text, '10', 'IO') FROM made
    UNION ALL SELECT regexp_replace(text, '(.{4})', '\1-', 'g') FROM made
    UNION ALL SELECT overlay(text PLACING wrong FROM place FOR length(wrong))
        FROM (SELECT text FROM made LIMIT 1) made, unnest(E'{u,U,*,é,_,+,\u017F,\u0131,\u212A}'::text[]) wrong, generate_series(1, 13, 6) place
    UNION ALL SELECT unnest(ARRAY['', '-', '123456789ABC', '123456789ABCDE', '-123456789ABCD-', ' 123456789ABCD', '123456789ABCD ',
        E'123456789ABCD\n', E'\n123456789ABCD', '0123456789.AB', '0x123456789AB', E'\uFF1123456789ABC']);

COPY (
    SELECT 'decode', id::text, :'key', to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z" ') || machine || ' ' || sequence FROM ids, idgen_decode(id)
    UNION ALL SELECT 'to_text', id::text, :'key', idgen_to_text(id) FROM ids
    UNION ALL SELECT 'to_opaque', id::text, :'key', idgen_to_opaque(id) FROM ids
    UNION ALL SELECT 'from_text', encode(convert_to(text, 'UTF8'), 'hex'), :'key', pg_temp.read('idgen_from_text(text)', text) FROM texts
    UNION ALL SELECT 'from_opaque', encode(convert_to(text, 'UTF8'), 'hex'), :'key', pg_temp.read('idgen_from_opaque(text)', text) FROM texts
) TO STDOUT;
