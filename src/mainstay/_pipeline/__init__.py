"""Pipelines: several policies around one function that count as one call; and `explain`."""
