CREATE INDEX idx_embeddings_hnsw_cosine ON {table}
    USING hnsw (embedding {vector}.{storage}_cosine_ops)
    WITH (m = {m}, ef_construction = {ef_construction});
