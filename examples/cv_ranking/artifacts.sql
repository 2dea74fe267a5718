-- Artifacts of people, ranked against a job description. Run by run.py.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;
CREATE TABLE IF NOT EXISTS artifacts (
    id integer PRIMARY KEY,
    user_id integer NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    skills text NOT NULL,
    embedding vector(1536),
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', title || ' ' || description || ' ' || skills)) STORED
);
CREATE INDEX IF NOT EXISTS artifacts_user ON artifacts (user_id);
CREATE INDEX IF NOT EXISTS artifacts_lexemes ON artifacts USING gin (lexemes);
CREATE TEMP TABLE given (id integer, user_id integer, title text, description text, skills text);
\copy given FROM artifacts.csv (FORMAT csv, HEADER)

-- What a remote service would return: here four vectors of 384 dimensions, one after another.
INSERT INTO artifacts (id, user_id, title, description, skills, embedding)
SELECT id, user_id, title, description, skills,
       embed(title) || embed(description) || embed(skills) || embed(concat_ws('. ', title, description, skills))
FROM given
ON CONFLICT (id) DO NOTHING;
SELECT user_id, count(*) AS artifacts, min(vector_dims(embedding)) AS dimensions FROM artifacts GROUP BY user_id ORDER BY user_id;
\set job 'We need a machine learning engineer who builds models against fraud and runs them in production.'
SELECT embed_query(:'job') AS part \gset
SELECT :'part'::vector || :'part'::vector || :'part'::vector || :'part'::vector AS job_embedding \gset

\echo 'The job:' :job
\echo
\echo 'Which artifacts of person 1 come first? The application brings the vector of the job; the other person''s rows take no part.'
\echo
SELECT a.title, round(h.score::numeric, 3) AS score, round(h.similarity::numeric, 2) AS similarity, h.vector_rank, h.text_rank
FROM hybrid_search('artifacts', :'job', k => 3, filter => '{"user_id": 1}', query_embedding => :'job_embedding', fusion => 'adaptive',
                   content_column => 'description') AS h
JOIN artifacts AS a ON a.id = h.id::integer
ORDER BY h.score DESC;

\echo 'Ranking by vectors is exact: the rows of one person are compared one by one, no index may leave one out.'
\echo
SELECT e->'vector_leg'->>'scan' AS scan, e->'vector_leg'->>'rows' AS rows
FROM explain_search('artifacts', :'job', filter => '{"user_id": 1}', query_embedding => :'job_embedding', content_column => 'description') AS e;

\echo 'Plain SQL with an operator of pgvector gives the same order.'
\echo
SELECT title FROM artifacts WHERE user_id = 1 ORDER BY embedding <=> :'job_embedding' LIMIT 2;

\echo 'When the service that embeds is down, words rank alone; the search says so in a WARNING.'
\echo
SET vector_tools.default_model = 'remote service that is down';
SELECT a.title, h.vector_rank, h.text_rank
FROM hybrid_search('artifacts', :'job', k => 3, filter => '{"user_id": 1}', content_column => 'description') AS h
JOIN artifacts AS a ON a.id = h.id::integer
ORDER BY h.score DESC;
RESET vector_tools.default_model;
