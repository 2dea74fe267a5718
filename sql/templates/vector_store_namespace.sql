-- A partition for one namespace. It is filled before it is attached, so that searches of other
-- namespaces go on meanwhile.
CREATE TABLE {partition} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES) WITH (toast_tuple_target = 4080);
COMMENT ON TABLE {partition} IS {comment};
