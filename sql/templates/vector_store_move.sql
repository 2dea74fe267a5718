-- Rows of a namespace out of the default partition.
LOCK TABLE ONLY {default_partition} IN ACCESS EXCLUSIVE MODE;
WITH moved AS (
    DELETE FROM ONLY {default_partition} AS d
    WHERE d.namespace OPERATOR(pg_catalog.=) {namespace}
    RETURNING {columns}
)
INSERT INTO {partition} ({columns}) SELECT {columns} FROM moved;
