-- What the server says about itself: its functions and its settings, one passage each.
CREATE TEMP VIEW descriptions AS
SELECT row_number() OVER (ORDER BY d.kind, d.name, d.content) AS place, d.*
FROM (
    SELECT 'function' AS kind,
           p.proname || '(' || pg_get_function_arguments(p.oid) || ')' AS name,
           p.proname || ': ' || o.description AS content
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_description AS o ON o.objoid = p.oid AND o.classoid = 'pg_catalog.pg_proc'::regclass
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
    UNION ALL
    SELECT 'setting', s.name, s.name || ': ' || concat_ws(' ', s.short_desc, s.extra_desc)
    FROM pg_catalog.pg_settings AS s
    WHERE s.category <> 'Customized Options'
) AS d;

-- A row inserted without an embedding would embed by itself, one after another; in bulk it is
-- faster to embed an array at once.
PREPARE load_descriptions(bigint, bigint) AS
INSERT INTO server_memories (content, metadata, embedding)
SELECT row.content, row.metadata, row.embedding
FROM (
    SELECT array_agg(d.content ORDER BY d.place) AS contents,
           array_agg(jsonb_build_object('source', d.kind, 'name', d.name) ORDER BY d.place) AS metadata
    FROM descriptions AS d
    WHERE d.place BETWEEN $1 AND $2
) AS slice
CROSS JOIN unnest(slice.contents, slice.metadata, embed(slice.contents)) AS row(content, metadata, embedding);
