CREATE INDEX ON {partition}
    USING ivfflat (embedding {vector}.{storage}_cosine_ops)
    WITH (lists = {lists});
