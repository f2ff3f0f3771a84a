"""Redundant calls: hedged, voted, at the members of a pool.

What users import: `policy`. What decides: `decision` which copy starts and which one wins,
`latency` when a call is slow. The parts of a call: `settings` are the checked parameters, `call` is
one call, `members` are the pool members of its copies. What acts: `sync_loop` and `async_loop`, and
`race`, the block form.
"""
