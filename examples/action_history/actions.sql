-- Alerts, actions and what came of them, with embeddings in the same transaction. Run by run.py.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;

CREATE TABLE IF NOT EXISTS resource_references (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    UNIQUE (namespace, kind, name)
);
CREATE TABLE IF NOT EXISTS action_traces (
    id bigint PRIMARY KEY,
    resource_id bigint NOT NULL REFERENCES resource_references,
    alert_name text NOT NULL,
    action_type text NOT NULL,
    reasoning text NOT NULL,
    effectiveness_score double precision CHECK (effectiveness_score BETWEEN 0 AND 1),
    "timestamp" timestamptz NOT NULL,
    embedding vector(384),
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', alert_name || ' ' || reasoning)) STORED
);
CREATE INDEX IF NOT EXISTS action_traces_lexemes ON action_traces USING gin (lexemes);
CREATE INDEX IF NOT EXISTS action_traces_embedding ON action_traces USING hnsw (embedding vector_cosine_ops);
-- New and changed reasoning is embedded as it is written.
CREATE OR REPLACE TRIGGER embed_reasoning BEFORE INSERT OR UPDATE ON action_traces
    FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('reasoning', 'embedding', 'all-MiniLM-L6-v2');

CREATE TEMP TABLE noticed (id bigint, days_ago integer, namespace text, kind text, name text, alert_name text,
                           action_type text, effectiveness_score double precision, reasoning text);
\copy noticed FROM actions.csv (FORMAT csv, HEADER)

\echo Rows, references and embeddings are written in one transaction: all of them are there, or none.
\echo
BEGIN;
INSERT INTO resource_references (namespace, kind, name)
SELECT DISTINCT namespace, kind, name FROM noticed ON CONFLICT DO NOTHING;
INSERT INTO action_traces (id, resource_id, alert_name, action_type, reasoning, effectiveness_score, "timestamp")
SELECT n.id, r.id, n.alert_name, n.action_type, n.reasoning, n.effectiveness_score, now() - n.days_ago * interval '1 day'
FROM noticed AS n JOIN resource_references AS r USING (namespace, kind, name)
ON CONFLICT (id) DO NOTHING;
COMMIT;
SELECT count(*) AS actions, count(embedding) AS embedded FROM action_traces;

\set ECHO queries
\echo 'A new alert: what worked before? Similar actions, joined with their resources, weighed by effectiveness and recency.'
\echo
SELECT a.action_type, r.name AS resource, round(h.similarity::numeric, 2) AS similarity,
       a.effectiveness_score AS effectiveness, left(a.reasoning, 60) AS reasoning
FROM hybrid_search('action_traces', 'container terminated: out of memory', k => 8, fusion => 'adaptive') AS h
JOIN action_traces AS a ON a.id = h.id::bigint
JOIN resource_references AS r ON r.id = a.resource_id
ORDER BY h.score * a.effectiveness_score * exp(-extract(epoch FROM now() - a."timestamp") / 86400 / 30) DESC
LIMIT 3;

\echo The same as advice: which kind of action has the best record among similar cases?
\echo
SELECT a.action_type, count(*) AS times, round(avg(a.effectiveness_score)::numeric, 2) AS effectiveness
FROM semantic_search('action_traces', 'the site responds slowly', k => 4) AS h
JOIN action_traces AS a ON a.id = h.id::bigint
WHERE h.similarity > 0.3
GROUP BY a.action_type ORDER BY effectiveness DESC;

\echo Only what worked, in one namespace, of the last thirty days: the filter is part of both legs of the search.
\echo
SELECT a.action_type, a.alert_name, a.effectiveness_score AS effectiveness
FROM hybrid_search('action_traces', 'no space left on device', k => 3, filter => jsonb_build_object(
         'effectiveness_score', jsonb_build_object('$gt', 0.7),
         'timestamp', jsonb_build_object('$gte', now() - interval '30 days'),
         'resource_id', jsonb_build_object('$in', (SELECT jsonb_agg(id) FROM resource_references WHERE namespace = 'data')))) AS h
JOIN action_traces AS a ON a.id = h.id::bigint
ORDER BY h.score DESC;

\echo 'A row that changes is embedded again in the same statement; an aborted transaction leaves no trace of it.'
\echo
BEGIN;
UPDATE action_traces SET reasoning = 'Blocked a flood of requests from one address at the firewall' WHERE id = 12;
SELECT a.id, a.reasoning FROM semantic_search('action_traces', 'denial of service attack', k => 1) AS h
JOIN action_traces AS a ON a.id = h.id::bigint;
ROLLBACK;
SELECT a.id, left(a.reasoning, 40) AS reasoning FROM semantic_search('action_traces', 'TLS is about to run out', k => 1) AS h
JOIN action_traces AS a ON a.id = h.id::bigint;
\set ECHO none
