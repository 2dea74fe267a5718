-- Each error: message, detail, hint, and its SQLSTATE.
SELECT embed('x', 'all-minilm-l6');
\echo :LAST_ERROR_SQLSTATE
SELECT embed('x', 'quite another');
\echo :LAST_ERROR_SQLSTATE
SELECT embed(ARRAY[ARRAY['a']]);
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('no good name', '/nowhere');
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('x', '/nowhere/model');
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('x', '/nowhere/model', 'remote');
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('x', 'all-MiniLM-L6-v2', options => '{"pooling": "sum"}');
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('x', 'all-MiniLM-L6-v2', options => '{"output": "logits"}');
\echo :LAST_ERROR_SQLSTATE
SELECT register_model('all-MiniLM-L6-v2', 'all-MiniLM-L6-v2');
\echo :LAST_ERROR_SQLSTATE
SELECT create_domain_memories_table('errors');
SELECT drop_model('all-MiniLM-L6-v2');
\echo :LAST_ERROR_SQLSTATE
SELECT create_domain_memories_table('errors', 'all-MiniLM-L6-v2-int8');
\echo :LAST_ERROR_SQLSTATE
SELECT create_domain_memories_table('');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'error');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'no'' such domain');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory(NULL, 'errors');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'errors', importance => 1.5);
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'errors', metadata => '{"importance": "high"}');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'errors', metadata => '[]');
\echo :LAST_ERROR_SQLSTATE
SELECT store_memory('x', 'errors', id => 'one');
SELECT store_memory('x', 'errors', id => 'one');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM search_memories('x', 'errors', 0);
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE plain_memories (id integer, content text);
SELECT store_memory('x', 'plain');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER embed_content ON errors_memories;
SELECT store_memory('x', 'errors');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER touch_updated_at ON errors_memories;
SELECT create_domain_memories_table('errors');
SELECT drop_domain('plane');
SELECT * FROM hybrid_search('errors_memories', 'x', k => 0);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM hybrid_search('errors_memories', 'x', filter => '{"importance": {"$near": 1}}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM hybrid_search('errors_memories', 'x', vector_column => 'nope');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM hybrid_search('errors_memories', 'x', vector_column => 'content');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM hybrid_search('vector_tools.models', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM hybrid_search('pg_class', 'x');
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE other_dimensions (id integer PRIMARY KEY, v vector(3), l tsvector);
SELECT * FROM hybrid_search('other_dimensions', 'x');
\echo :LAST_ERROR_SQLSTATE
SELECT rrf_score(0);
\echo :LAST_ERROR_SQLSTATE
SET search_path = '';
SELECT public.create_domain_memories_table('nowhere');
\echo :LAST_ERROR_SQLSTATE
RESET search_path;
-- The session goes on.
SELECT vector_dims(embed('still here'));
DROP TABLE errors_memories, plain_memories, other_dimensions;
SELECT chunk_text('x', 'paragraphs');
\echo :LAST_ERROR_SQLSTATE
SELECT chunk_text('x', max_tokens => 9);
\echo :LAST_ERROR_SQLSTATE
SELECT chunk_text('x', 'fixed', 102, 51);
\echo :LAST_ERROR_SQLSTATE
