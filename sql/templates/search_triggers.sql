-- Row triggers, since PostgreSQL gives every partition its own copy. The columns in their conditions are the catalogue:
-- renames are followed, and an UPDATE of other columns costs nothing.
CREATE OR REPLACE TRIGGER vector_tools_search_rows
    AFTER INSERT ON {source}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.queue_row({options}, 'rows');
CREATE OR REPLACE TRIGGER vector_tools_search_content
    AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({content_changed})
    EXECUTE FUNCTION vector_tools.queue_row({options}, 'content');
-- An entry of the queue names its row by the key.
CREATE OR REPLACE TRIGGER vector_tools_search_key
    AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({key_changed})
    EXECUTE FUNCTION vector_tools.queue_row({options}, 'key');
