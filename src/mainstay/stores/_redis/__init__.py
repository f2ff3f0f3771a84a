"""What `RedisStore` is made of."""
