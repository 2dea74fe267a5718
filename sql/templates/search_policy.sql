-- Whoever may read the key and all content columns of a row may read its chunks; for others the policy itself fails.
CREATE POLICY vector_tools_search ON {companion} FOR SELECT
    USING (EXISTS (SELECT {watched} FROM {from_source} AS s WHERE {same_row}));
