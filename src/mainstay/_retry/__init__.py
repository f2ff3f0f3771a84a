"""Retry: `decision` decides, `loops` and `blocks` act, `call` keeps one call, `policy` is the face.

`settings` are what users gave. `strategies` makes tenacity's objects usable, which read a call by
`call_state`. `nested` tells a retry that another one inside it has given up.
"""
