"""Mailmirror for applications in Python: read a mirror over HTTP, and keep a cache equal to it."""
