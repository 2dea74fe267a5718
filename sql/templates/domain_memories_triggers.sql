-- The triggers that keep the embedding and updated_at of a domain-memories table true.
CREATE OR REPLACE TRIGGER embed_content
    BEFORE INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('content', 'embedding', {model});
CREATE OR REPLACE TRIGGER touch_updated_at
    BEFORE UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.touch_row('updated_at');
