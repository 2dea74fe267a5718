-- Last, since it loads the models: a failure here is a warning, not the end of CREATE EXTENSION.
SELECT vector_tools.register_bundled_models();
