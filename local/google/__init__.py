"""Google around Gmail, faked over HTTP: who may act for whom, and where secrets are kept.

`oauth` (users' consent and tokens), `iam` (a service account that signs as another), `secretmanager`, and `directory`
(a Workspace account's users). Each file is state with rules and the HTTP in front of it, as a Flask blueprint;
`server` serves them together, `python -m local.google` as a process.
"""
