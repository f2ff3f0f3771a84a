"""Several policies around one function as one call, and what they come to at worst."""
