"""Failover pools.

What decides, values in and a value out: `planner`, `selection`.
What a pool consists of: `options` and `settings` are what users gave, `members` its parts;
`engine` is its state behind one lock, with `fencing`, `outbox` and `monitor` at its side.
What acts: `calls` and `blocks` for the user, `openers` and `probes` for the pool, which call what
the user gave by `hooks`.
What users import: `pool`.
"""
