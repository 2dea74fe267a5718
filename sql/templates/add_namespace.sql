-- For a table that was made without it. Nobody knows the namespace of the rows that are there.
ALTER TABLE {table} ADD COLUMN namespace pg_catalog.varchar(100);
ALTER TABLE {table} ALTER COLUMN namespace SET DEFAULT 'default';
