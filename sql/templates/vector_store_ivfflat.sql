-- The indexes of the partitions, each with lists for its own rows, become parts of this one.
CREATE INDEX idx_embeddings_ivfflat ON {table}
    USING ivfflat (embedding {vector}.{storage}_cosine_ops);
