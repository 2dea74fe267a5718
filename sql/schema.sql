-- The schema of the extension's state, and what all features share.

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'vector_tools needs a database in UTF8, not %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = '0A000',
                  DETAIL = 'Models read UTF-8 text.',
                  HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

CREATE SCHEMA vector_tools;
COMMENT ON SCHEMA vector_tools IS 'state of the extension vector_tools: models and searchable tables';
GRANT USAGE ON SCHEMA vector_tools TO PUBLIC;

-- Every view of the extension is a security_barrier: else a function of the reader's would be called with rows, and
-- the planner would tell of values, before the view's own conditions have hidden them. A UNION ALL is none by itself,
-- since the planner takes it apart before it looks: it stands in the FROM clause of a view.

-- tgargs holds the arguments one after another, each ended by a zero byte, and a text can hold anything else. So they
-- become the text of an array. In the form "escape" only zero bytes, other bytes beyond ASCII and backslashes are
-- escaped; with backslashes written in octal, too, \000 is a zero byte wherever it is found. One expression, and
-- STABLE as reading an array is: only so the planner puts it in place of the call. Whoever may make a trigger may give
-- it any argument, and the lists are everyone's: longer ones than any that the extension makes are not read.
CREATE FUNCTION vector_tools.trigger_arguments(tgargs bytea) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN pg_catalog.octet_length(tgargs) OPERATOR(pg_catalog.>) 16384 THEN NULL
    WHEN tgargs OPERATOR(pg_catalog.=) ''::pg_catalog.bytea THEN '{}'::pg_catalog.text[]
    ELSE (
        '{"' OPERATOR(pg_catalog.||)
        -- Without what stands between the last argument and none.
        pg_catalog.left(pg_catalog.convert_from(pg_catalog.decode(
            pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.encode(tgargs, 'escape'),
                '\\', '\134\134'), '"', '\134"'), '\000', '","'),
            'escape'), 'UTF8'), -2)
        OPERATOR(pg_catalog.||) '}'
    )::pg_catalog.text[]
END;
COMMENT ON FUNCTION vector_tools.trigger_arguments(bytea) IS 'the arguments of a trigger, from pg_trigger.tgargs; NULL where they have more than 16384 bytes';
