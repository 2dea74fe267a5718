CREATE OR REPLACE TRIGGER vector_tools_search_configuration
    AFTER UPDATE ON {source}
    FOR EACH ROW WHEN ({configuration_changed})
    EXECUTE FUNCTION vector_tools.queue_row({options}, 'configuration');
