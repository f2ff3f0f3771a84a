"""Failover pools.

What decides, values in and a value out: `planner`, `selection`.
What a pool consists of: `options` and `settings` are what users gave, `members` its parts;
`engine` is its state behind one lock, with `fencing`, `outbox` and `monitor` at its side, and
`rotation` what calls read of it without the lock. `operations` and `suspicion` change it too.
What acts for the user: `loops` and `blocks`, which ask `call`, one call of a pool.
What acts for the pool: `openers` and `probes`, which call what the user gave by `hooks`.
What users import: `pool`.
"""
