"""Checkpointed functions and blocks.

What users import: `policy` is the decorator, `block` the block, `cp` what they have in hand inside
a run; `recovery` runs again what was interrupted, and `commands` looks after a store.
What is asked for: `rules` are the parameters, `keys` finds the key of a call, `sources` checks what
is iterated over; `bound` is a policy with the name and code of what it wraps.
What decides: `decision`, and `retention` about old runs.
What acts: `sessions` begins and ends an attempt, `loops` goes through items and steps, `offload`
makes store calls of async runs in threads; `watcher` and `signals` watch over a run from outside.
What an attempt is: `run` stands between the loops and the store, `progress` knows how far it is,
`iteration` where an iteration is, `leaving` how it was left, `steps` which results there are.
What is saved: a `document` in an `envelope`, written by `codec` and, for single values, `scalars`;
`types` says which types may be built from it, and `fields` how. `fingerprint` and `order` tell
items and sources apart, `digest` notices that a function was changed, `recoverable` keeps the
arguments of calls.
What is seen: `events`, and a `progressbar`.
"""
