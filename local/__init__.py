"""What runs on a developer's machine and is never deployed.

It knows how to stand in for Google: a fake Gmail, a push broker, made-up mail. It does not know the mirror: nothing in
`functions/` imports from here, and nothing here imports from `functions/` but `consent`, an operator's command, which
has to put a refresh token where the functions look for it.
"""
