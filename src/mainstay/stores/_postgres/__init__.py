"""What `PostgresStore` is made of: statements, operations, sessions, pools, and the guard."""
