"""Timeouts, bulkheads, rate limits and fallbacks.

Each policy has a module that users import, and a `..._calls` module with its calls. `adaptive`
decides the limit of a bulkhead, `places` who runs and who waits, `gcra` when the next turn comes.
"""
