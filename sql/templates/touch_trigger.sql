-- The trigger that keeps updated_at true.
CREATE OR REPLACE TRIGGER touch_updated_at
    BEFORE UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.touch_row('updated_at');
