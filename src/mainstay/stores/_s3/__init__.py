"""What `S3Store` is made of."""
