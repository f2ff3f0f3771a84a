"""Timeout, bulkhead, rate limit and fallback: what bounds a call, and what stands in for it.

`adaptive` decides how many calls can be borne, `places` who runs and who waits, `gcra` whose turn
it is.
"""
