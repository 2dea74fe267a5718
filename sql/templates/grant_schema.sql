GRANT {privileges} ON SCHEMA {schema} TO {grantee};
