-- The extension, and a table of memories for the server's descriptions.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;
SELECT create_domain_memories_table('server');
