REVOKE ALL ON TABLE {relation} FROM {grantee};
