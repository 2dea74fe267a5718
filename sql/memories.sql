-- Domain memories. The arguments of the functions in C are those of src/memories/functions.rs (pg_test/arguments).

CREATE FUNCTION create_domain_memories_table(
    domain text,
    model text DEFAULT NULL,
    text_configuration text DEFAULT 'english'
) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'create_domain_memories_table_wrapper';

CREATE FUNCTION store_memory(
    content text,
    domain text DEFAULT NULL,
    source text DEFAULT NULL,
    importance double precision DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    id text DEFAULT NULL
) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'store_memory_wrapper';
COMMENT ON FUNCTION store_memory IS 'stores a memory in a domain, or in vector_tools.default_domain; returns its id';

CREATE FUNCTION update_memory(
    id text,
    content text DEFAULT NULL,
    domain text DEFAULT NULL,
    source text DEFAULT NULL,
    importance double precision DEFAULT NULL,
    metadata jsonb DEFAULT NULL
) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'update_memory_wrapper';
COMMENT ON FUNCTION update_memory IS 'changes what is given of a memory, metadata key by key; returns whether there was one';

CREATE FUNCTION delete_memory(id text, domain text DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'delete_memory_wrapper';
COMMENT ON FUNCTION delete_memory IS 'deletes a memory; returns whether there was one';

CREATE FUNCTION search_memories(
    query text,
    domain text DEFAULT NULL,
    "limit" bigint DEFAULT 5,
    filter jsonb DEFAULT NULL,
    use_vector boolean DEFAULT true,
    min_importance double precision DEFAULT NULL
) RETURNS TABLE (
    id text,
    content text,
    metadata jsonb,
    similarity_score double precision,
    score double precision,
    created_at timestamptz,
    updated_at timestamptz
)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 5
AS 'MODULE_PATHNAME', 'search_memories_wrapper';
COMMENT ON FUNCTION search_memories IS 'the memories of a domain that best answer a query, by hybrid_search; by words alone where no vector can be had';

CREATE FUNCTION drop_domain(domain text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'drop_domain_wrapper';
COMMENT ON FUNCTION drop_domain IS 'drops a domain''s table with its memories, as DROP TABLE; returns whether there was one';

-- Behind vector_tools.domains. Unsafe in parallel plans, in which older servers begin no subtransactions.
CREATE FUNCTION vector_tools.count_memories(source regclass, embedded boolean) RETURNS bigint
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'count_memories_wrapper';
COMMENT ON FUNCTION vector_tools.count_memories IS 'memories of a table, or those embedded; NULL where the caller may not read them all';

CREATE FUNCTION vector_tools.size_of_memories(source regclass) RETURNS bigint
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'size_of_memories_wrapper';
COMMENT ON FUNCTION vector_tools.size_of_memories IS 'size of a table with its indexes; NULL while it is locked exclusively';

CREATE FUNCTION vector_tools.last_memory_update(source regclass) RETURNS timestamptz
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'last_memory_update_wrapper';
COMMENT ON FUNCTION vector_tools.last_memory_update IS 'when a memory of a table was changed last; NULL where the caller may not read them all';

-- A domain is a name: that of its table, less the ending. Nothing else records it, so a table that is renamed, moved or
-- dropped takes its domain along. Other sessions' temporary tables cannot be read.
CREATE VIEW vector_tools.domains WITH (security_barrier) AS
SELECT pg_catalog.left(c.relname::pg_catalog.text, -9) AS domain,
       t.source,
       t.model,
       vector_tools.count_memories(t.source, false) AS memories,
       vector_tools.count_memories(t.source, true) AS embedded,
       CASE
           WHEN pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
               AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
           THEN vector_tools.size_of_memories(t.source)
       END AS size_bytes,
       vector_tools.last_memory_update(t.source) AS last_update
FROM vector_tools.embedded_tables AS t
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.source::pg_catalog.oid
WHERE c.relname::pg_catalog.text OPERATOR(pg_catalog.~) '._memories$'
  AND t.content_column OPERATOR(pg_catalog.=) 'content'
  AND t.embedding_column OPERATOR(pg_catalog.=) 'embedding'
  AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
  AND NOT c.relispartition;
COMMENT ON VIEW vector_tools.domains IS 'domains of memories; counts are NULL where the caller may not read, where policies hide rows of others, or where counting would wait or run code of others';
COMMENT ON COLUMN vector_tools.domains.domain IS 'what store_memory and search_memories take';
COMMENT ON COLUMN vector_tools.domains.source IS 'its table';
COMMENT ON COLUMN vector_tools.domains.model IS 'the model that embeds it';
COMMENT ON COLUMN vector_tools.domains.memories IS 'memories, counted';
COMMENT ON COLUMN vector_tools.domains.embedded IS 'memories that have an embedding';
COMMENT ON COLUMN vector_tools.domains.size_bytes IS 'size of the table with its indexes';
COMMENT ON COLUMN vector_tools.domains.last_update IS 'when a memory was changed last';

GRANT SELECT ON vector_tools.domains TO PUBLIC;
COMMENT ON FUNCTION create_domain_memories_table(text, text, text) IS 'creates the table {domain}_memories, whose rows embed themselves; returns its name';
