-- A schema `attacker` with everything a careless statement could find there: operators, functions, aggregates, types and
-- tables under the names of the server's own, pgvector's and the extension's, with the same arguments. Each answers as
-- the true one does, and tells of its use: with a warning where it runs with rights that are not the session's own.
-- Made by a superuser from the catalogue, so that nothing is left out; __PGVECTOR__ and __EXTENSION__ are filled in.
SET search_path = pg_catalog;
SET check_function_bodies = off;
CREATE SCHEMA attacker;
GRANT USAGE ON SCHEMA attacker TO PUBLIC;
-- Volatile, since a plan would keep what it gave once.
CREATE FUNCTION attacker.seen(what text) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_user OPERATOR(pg_catalog.<>) session_user THEN
        RAISE WARNING 'OTHER RIGHTS: % ran as %', what, current_user;
    ELSE
        RAISE NOTICE 'USED: %', what;
    END IF;
    RETURN true;
END $$;

DO $do$
DECLARE
    o record;
    function_name text;
    made int := 0;
BEGIN
    FOR o IN
        SELECT x.oid, x.oprname, n.nspname, p.proisstrict,
               CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END AS volatility,
               nullif(x.oprleft, 0)::regtype AS on_left, x.oprright::regtype AS on_right, x.oprresult::regtype AS result
        FROM pg_operator AS x JOIN pg_proc AS p ON p.oid = x.oprcode JOIN pg_namespace AS n ON n.oid = x.oprnamespace
        WHERE n.nspname IN ('pg_catalog', '__PGVECTOR__')
    LOOP
        BEGIN
            function_name := 'operator_' || o.oid;
            EXECUTE format('CREATE FUNCTION attacker.%I(%s) RETURNS %s LANGUAGE plpgsql %s %s AS %L', function_name,
                concat_ws(', ', o.on_left, o.on_right), o.result, o.volatility,
                CASE WHEN o.proisstrict THEN 'STRICT' END,
                format('BEGIN PERFORM attacker.seen(%L); RETURN %s OPERATOR(%I.%s) %s; END',
                    concat_ws(' ', 'operator', o.on_left, o.oprname, o.on_right),
                    CASE WHEN o.on_left IS NOT NULL THEN '$1' END, o.nspname, o.oprname,
                    CASE WHEN o.on_left IS NOT NULL THEN '$2' ELSE '$1' END));
            EXECUTE format('CREATE OPERATOR attacker.%s (%s RIGHTARG = %s, FUNCTION = attacker.%I)', o.oprname,
                'LEFTARG = ' || o.on_left || ',', o.on_right, function_name);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            -- A type that no function in plpgsql takes.
            NULL;
        END;
    END LOOP;
    IF made < 700 THEN
        RAISE 'expected most operators, not %', made;
    END IF;
END $do$;

DO $do$
DECLARE
    f record;
    call text;
    made int := 0;
BEGIN
    FOR f IN
        SELECT p.proname, n.nspname, p.proretset, p.proisstrict, p.proallargtypes IS NOT NULL AS has_result_columns,
               p.prorettype = 'void'::regtype AS is_void,
               CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END AS volatility,
               pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
               (SELECT string_agg('$' || i, ', ' ORDER BY i) FROM generate_series(1, p.pronargs) AS i) AS given
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('pg_catalog', '__PGVECTOR__', '__EXTENSION__') AND p.prokind = 'f' AND p.provariadic = 0
          AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype, 'cstring'::regtype)
          AND NOT p.proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[]
    LOOP
        BEGIN
            call := format('%I.%I(%s)', f.nspname, f.proname, f.given);
            CONTINUE WHEN f.has_result_columns AND NOT f.proretset;
            EXECUTE format('CREATE FUNCTION attacker.%I(%s) RETURNS %s LANGUAGE plpgsql %s %s AS %L', f.proname, f.arguments,
                f.result, f.volatility, CASE WHEN f.proisstrict THEN 'STRICT' END,
                format('BEGIN PERFORM attacker.seen(%L); %s; END', 'function ' || f.proname,
                    CASE WHEN f.proretset THEN 'RETURN QUERY SELECT * FROM ' || call
                         WHEN f.is_void THEN 'PERFORM ' || call
                         ELSE 'RETURN ' || call END));
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    IF made < 2000 THEN
        RAISE 'expected most functions, not %', made;
    END IF;
END $do$;

DO $do$
DECLARE
    a record;
    made int := 0;
BEGIN
    FOR a IN
        SELECT p.oid, p.proname, g.aggtransfn, g.aggtranstype::regtype AS state, g.agginitval,
               nullif(g.aggfinalfn, 0) AS final, t.proisstrict, pg_get_function_arguments(p.oid) AS arguments,
               (SELECT string_agg('$' || i, ', ' ORDER BY i) FROM generate_series(1, t.pronargs) AS i) AS given
        FROM pg_aggregate AS g JOIN pg_proc AS p ON p.oid = g.aggfnoid JOIN pg_proc AS t ON t.oid = g.aggtransfn
        WHERE g.aggkind = 'n' AND g.aggtranstype <> 'internal'::regtype AND p.pronamespace = 'pg_catalog'::regnamespace
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION attacker.%I(%s) RETURNS %s LANGUAGE plpgsql IMMUTABLE %s AS %L',
                'step_' || a.oid, concat_ws(', ', a.state, nullif(a.arguments, '')), a.state,
                CASE WHEN a.proisstrict THEN 'STRICT' END,
                format('BEGIN PERFORM attacker.seen(%L); RETURN pg_catalog.%I(%s); END', 'aggregate ' || a.proname,
                    (SELECT proname FROM pg_proc WHERE oid = a.aggtransfn), a.given));
            EXECUTE format('CREATE AGGREGATE attacker.%I(%s) (SFUNC = attacker.%I, STYPE = %s %s %s)', a.proname,
                coalesce(nullif(a.arguments, ''), '*'), 'step_' || a.oid, a.state,
                ', INITCOND = ' || quote_literal(a.agginitval), ', FINALFUNC = ' || a.final);
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    IF made < 60 THEN
        RAISE 'expected most aggregates, not %', made;
    END IF;
END $do$;
-- Those whose state is the server's own.
CREATE FUNCTION attacker.join_texts(text, text, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM attacker.seen('aggregate string_agg'); RETURN pg_catalog.concat($1, CASE WHEN $1 IS NOT NULL THEN $3 END, $2); END $$;
CREATE AGGREGATE attacker.string_agg(text, text) (SFUNC = attacker.join_texts, STYPE = text);
CREATE FUNCTION attacker.append(anyarray, anyelement) RETURNS anyarray LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM attacker.seen('aggregate array_agg'); RETURN pg_catalog.array_append($1, $2); END $$;
CREATE AGGREGATE attacker.array_agg(anyelement) (SFUNC = attacker.append, STYPE = anyarray);

DO $do$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT x.typname, n.nspname FROM pg_type AS x JOIN pg_namespace AS n ON n.oid = x.typnamespace
        WHERE n.nspname IN ('pg_catalog', '__PGVECTOR__') AND x.typtype IN ('b', 'r') AND x.typelem = 0
    LOOP
        BEGIN
            EXECUTE format('CREATE DOMAIN attacker.%I AS %I.%I CHECK (attacker.seen(%L))', t.typname, t.nspname, t.typname,
                'type ' || t.typname);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    FOR t IN
        SELECT c.relname, n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('pg_catalog', 'vector_tools') AND c.relkind IN ('r', 'v')
    LOOP
        BEGIN
            EXECUTE format('CREATE VIEW attacker.%I WITH (security_invoker) AS SELECT * FROM %I.%I WHERE attacker.seen(%L)',
                t.relname, t.nspname, t.relname, 'table ' || t.relname);
            EXECUTE format('GRANT SELECT ON attacker.%I TO PUBLIC', t.relname);
        EXCEPTION WHEN OTHERS THEN
            -- Columns of pseudo-types.
            NULL;
        END;
    END LOOP;
END $do$;
RESET search_path;
RESET check_function_bodies;
