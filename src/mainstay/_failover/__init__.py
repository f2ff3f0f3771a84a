"""Failover: `health` judges a member, `roster` says who serves, `selection` who is next.

`options` is what users give, `core` the state of a pool, `members` what it consists of, `run` one
call, `loops` and `blocks` act, `starts` and `probes` open, close and look after the members,
`policy` and `breaker` are the faces.
"""
