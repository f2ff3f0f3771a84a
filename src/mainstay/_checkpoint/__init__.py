"""Checkpointed functions and blocks.

What users import: `policy` is the decorator, `block` the block, `cp` what they have in hand inside
a run; `recovery` runs again what was interrupted, and `commands` looks after a store.
What is asked for: `settings` are the parameters, `keys` finds the key of a call.
What decides: `decision` what to do about a run, `schedule` when to save, `retention` about old
runs.
What acts: `call` makes an attempt at a run, with a `watcher` and `signals` beside it; `loops` goes
through items and steps.
What an attempt has in hand: a `run`, which stands between the loops and the store; `progress`,
`iteration`, `archive`, `steps` and `state` know how far it is.
What is saved: a `document`, written by `codec` and, for single values, `scalars`, for instances of
classes `instances`; `types` says which types may be built from it. `value_digest` and `key_digest`
tell items and sources apart, `code` notices that a function was changed.
"""
