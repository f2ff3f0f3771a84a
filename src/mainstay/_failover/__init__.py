"""Failover pools and circuit breakers.

What decides: `health` judges a member, `roster` says who serves, `selection` who is next.
What a pool is: `options` and `rules` are what users gave, `members` what it consists of; `state`,
`plan`, `results` and `core` are its state, layer upon layer, behind one lock.
What acts: `run` is one call, `loops` and `blocks` make it; `starts` and `probes` look after the
members, and call what users gave by `hooks`; `operations` is what an operator does.
A breaker is a `gate`, and calls go through it by a `passage`.
What users import: `policy`, `decorator`, `breaker`; other policies know `lending` only.
"""
