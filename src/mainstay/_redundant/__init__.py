"""Redundant calls: hedged, voted, at the members of a pool.

What decides: `decision` says which copy starts and which one wins, `latency` when a call is slow.
What a call is: `settings` is what users gave, `call` one call, `members` the members of a pool that
its copies use. What acts: `sync_loop` and `async_loop`, `workers` runs copies in sync code, `race`
is the block form. What users import: `policy`.
"""
