//! What becomes of a searchable table whose shape changes, and of tables of unusual shapes.
