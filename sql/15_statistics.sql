-- What BM25 needs to know of large tables, counted now and then.

CREATE TABLE vector_tools.statistics_snapshots (
    source oid,
    column_number smallint,
    documents bigint NOT NULL DEFAULT 0,
    average_length double precision NOT NULL DEFAULT 1,
    changes bigint NOT NULL DEFAULT 0,
    pages bigint NOT NULL DEFAULT 0,
    refreshed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (source, column_number)
);
COMMENT ON TABLE vector_tools.statistics_snapshots IS 'when the words of which tables were counted; read vector_tools.search_statistics instead';

-- A word that one document has is not stored: most words are such words.
CREATE TABLE vector_tools.document_frequencies (
    source oid,
    column_number smallint,
    lexeme text COLLATE "C",
    documents bigint NOT NULL,
    PRIMARY KEY (source, column_number, lexeme)
);
COMMENT ON TABLE vector_tools.document_frequencies IS 'how many documents of a table have a word';

-- Frequencies tell of rows that a policy may hide.
CREATE VIEW vector_tools.search_statistics WITH (security_barrier) AS
SELECT s.source::pg_catalog.regclass AS source,
       a.attname AS text_column,
       s.documents,
       s.average_length,
       s.refreshed_at
FROM vector_tools.statistics_snapshots AS s
JOIN pg_catalog.pg_attribute AS a
  ON a.attrelid OPERATOR(pg_catalog.=) s.source AND a.attnum OPERATOR(pg_catalog.=) s.column_number
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.source
WHERE pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
  AND pg_catalog.has_column_privilege(s.source, s.column_number, 'SELECT')
  AND NOT pg_catalog.row_security_active(s.source);
COMMENT ON VIEW vector_tools.search_statistics IS 'when the words of which tables were counted for BM25';
COMMENT ON COLUMN vector_tools.search_statistics.source IS 'the table';
COMMENT ON COLUMN vector_tools.search_statistics.text_column IS 'its tsvector column';
COMMENT ON COLUMN vector_tools.search_statistics.documents IS 'rows in which that column is not NULL';
COMMENT ON COLUMN vector_tools.search_statistics.average_length IS 'lexemes of a document, each as often as it occurs';
COMMENT ON COLUMN vector_tools.search_statistics.refreshed_at IS 'when they were counted';
