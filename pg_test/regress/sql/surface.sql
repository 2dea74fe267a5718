-- What a person sees of the extension in psql.
\dx vector_tools
SELECT p.oid::regprocedure AS function, p.provolatile AS volatility, p.proparallel AS parallel,
       p.proisstrict AS strict, obj_description(p.oid, 'pg_proc') AS description
FROM pg_depend AS d
JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector_tools')
ORDER BY p.oid::regprocedure::text COLLATE "C";
\d+ vector_tools.models
\d+ vector_tools.embedded_tables
\d+ vector_tools.domains
SELECT count_tokens('loads the library');
SELECT name, setting, min_val, max_val, context, short_desc FROM pg_settings WHERE name LIKE 'vector_tools.%' ORDER BY name COLLATE "C";
-- A setting that does not exist is not accepted silently.
SET vector_tools.treads = 2;
SET vector_tools.backend_threads = 0;
-- No function runs with other rights than its caller's.
SELECT count(*) AS security_definer
FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'vector_tools') AND p.prosecdef;
