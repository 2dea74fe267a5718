-- Who may do what, and what each function says of itself in \df+.

GRANT USAGE ON SCHEMA vector_tools TO PUBLIC;
GRANT SELECT ON vector_tools.models, vector_tools.searchable_tables, vector_tools.search_statistics,
    vector_tools.embedder_stats TO PUBLIC;

-- A source is a path on the server.
REVOKE ALL ON FUNCTION register_model(text, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vector_tools.register_bundled_models() FROM PUBLIC;

COMMENT ON FUNCTION embed(text) IS 'embedding of a passage by vector_tools.default_model; longer text is truncated at the model''s limit';
COMMENT ON FUNCTION embed(text, text) IS 'embedding of a passage by the named model; fit for generated columns and expression indexes';
COMMENT ON FUNCTION embed(text[]) IS 'embeddings of many passages by vector_tools.default_model, in their order, batched by length';
COMMENT ON FUNCTION embed(text[], text) IS 'embeddings of many passages by the named model, in their order, batched by length';
COMMENT ON FUNCTION embed_query(text) IS 'embedding of a query by vector_tools.default_model, with the model''s query prefix';
COMMENT ON FUNCTION embed_query(text, text) IS 'embedding of a query by the named model, with the model''s query prefix';
COMMENT ON FUNCTION count_tokens(text) IS 'tokens of a text for vector_tools.default_model, before truncation, special tokens included';
COMMENT ON FUNCTION count_tokens(text, text) IS 'tokens of a text for the named model, before truncation, special tokens included';
COMMENT ON FUNCTION warm_up(text) IS 'has a model loaded where it will run, so that no query waits for that; returns its dimensions';
COMMENT ON FUNCTION vector_tools.embedder_statistics() IS 'what the embedding process says of itself; read vector_tools.embedder_stats instead';
COMMENT ON FUNCTION register_model(text, text, text, jsonb) IS 'registers the model in a folder or ONNX file of the server, after loading it; returns its dimensions';
COMMENT ON FUNCTION drop_model(text) IS 'removes a model from the registry; its files stay';
COMMENT ON FUNCTION hybrid_search IS 'the k rows of a table that best answer a query, by embedding and by words, fused into one list';
COMMENT ON FUNCTION semantic_search IS 'the k rows of a table that are nearest to a query in meaning; score is the similarity';
COMMENT ON FUNCTION keyword_search IS 'the k rows of a table that rank highest by the words of a query; score is BM25';
COMMENT ON FUNCTION explain_search IS 'what hybrid_search does with these arguments: its statements, passes, rows and milliseconds';
COMMENT ON FUNCTION bm25_rank IS 'BM25 score of a document for a query, by the word statistics of a table; for any ORDER BY';
COMMENT ON FUNCTION refresh_search_stats IS 'counts the words of a table anew for BM25; returns the number of documents';
COMMENT ON FUNCTION vector_tools.bm25_score IS 'BM25 score of a document for lexemes of given weights; NULL where it has fewer than minimum of them';
COMMENT ON TYPE vector_tools.word_match IS 'how many of a query''s words a row must have: any, all or a number';
COMMENT ON FUNCTION vector_tools.word_match_in(cstring) IS 'I/O';
COMMENT ON FUNCTION vector_tools.word_match_out(vector_tools.word_match) IS 'I/O';
COMMENT ON FUNCTION rrf_score(bigint, bigint, double precision) IS 'share of one ranked list in a fused score: weight / (k + rank)';
COMMENT ON FUNCTION rrf_fuse(anyarray, anyarray, bigint, double precision, double precision) IS 'fuses two ranked lists, best first, by reciprocal rank';
COMMENT ON FUNCTION create_domain_memories_table(text, text, text) IS 'creates the table {domain}_memories, whose rows embed themselves; returns its name';
COMMENT ON FUNCTION vector_tools.embed_row() IS 'row trigger (content column, embedding column, model): embeds new and changed content';
COMMENT ON FUNCTION vector_tools.touch_row() IS 'row trigger (column): keeps the time of the last change';
COMMENT ON FUNCTION vector_tools.announce_model_change() IS 'statement trigger: tells every session that the registry has changed';
COMMENT ON FUNCTION vector_tools.register_bundled_models() IS 'registers the models that came with the extension and are not registered; returns how many';

-- Last, since it loads the models: a failure here is a warning, not the end of CREATE EXTENSION.
SELECT vector_tools.register_bundled_models();
