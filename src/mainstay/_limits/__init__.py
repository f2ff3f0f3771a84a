"""Timeout, bulkhead, rate limit and fallback: what bounds a call, and what stands in for it."""
