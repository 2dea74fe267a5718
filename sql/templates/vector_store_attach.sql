-- The indexes, constraints and triggers of the store come with this; an index that is there stays.
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES IN ({namespace});
