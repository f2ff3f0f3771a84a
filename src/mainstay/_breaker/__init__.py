"""Circuit breakers: a detector that decides whether calls go through.

`policy` is what users see, `engine` the state behind one lock, `calls` one call through it.
"""
