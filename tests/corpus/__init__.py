"""Messages of all kinds, as they come over the wire, by a name of their own.

`cpython` finds those that Python tests its own parser with, the other modules make them. `oracle` reads them with the
standard library, `exceptions` names each message that is read otherwise, and why.
"""
