-- Who is to be the last administrator is looked up while one is taken away; without this that reads every user.
CREATE INDEX users_v1_administrators ON users_v1 (id) WHERE status = 'active' AND 'admin' = ANY (roles);
