-- A table of $rows rows: the documents, then mixtures of two, the first half of one's sentences with the second
-- half of the other's, under the normalised sum of their vectors.
CREATE TABLE $table (
    id bigint,
    body text,
    bucket integer,
    embedding vector(384),
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED
);
INSERT INTO $table (id, body, bucket, embedding)
SELECT i,
       CASE WHEN i < 65804 THEN a.body ELSE array_to_string(
           a.sentences[:(cardinality(a.sentences) + 1) / 2] || b.sentences[cardinality(b.sentences) / 2 + 1:], '. ') END,
       abs(hashint8(i)::bigint) % 1000,
       CASE WHEN i < 65804 THEN a.embedding ELSE l2_normalize(a.embedding + b.embedding) END
FROM generate_series(0::bigint, $rows - 1) AS i
JOIN documents AS a ON a.number = CASE WHEN i < 65804 THEN i ELSE abs(hashint8(i * 2 + 1)::bigint) % 65804 END
JOIN documents AS b ON b.number = abs(hashint8(i * 3 + 7)::bigint) % 65804;
ALTER TABLE $table ADD PRIMARY KEY (id);
CREATE INDEX ON $table (bucket);
CREATE INDEX ON $table USING gin (lexemes);
CREATE INDEX ON $table USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 200);
VACUUM ANALYZE $table;
