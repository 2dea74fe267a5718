GRANT {role} TO {member};
