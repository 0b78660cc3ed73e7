"""What `mailmirror doctor` looks at: a file for each subject, with its name and its checks.

A check is looked at whatever became of those before it. It sees one thing, and says in a sentence what is wrong and
with which command it is mended.
"""
