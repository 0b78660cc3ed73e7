"""`mailmirror`, the command for operators: it runs on their machine with their credentials and is never deployed.

- `__main__`: the command line, one function for each command
- `options`: what several commands are told, such as `--project` and `--json`
- `telling`: answers for people and for programs, errors and exit codes
- `target`: where the functions are; `identity`: as whom they are called
- `mailboxes`, `estimate`, `runs`, `parked`, `deltas`, `mail`: the commands that call them, by what they are about
- `words`: values of documents as a person reads them
- `expected`: what a deployment consists of, as terraform/ makes it
- `google`: Google's REST APIs, asked without changing anything
- `site`: the deployment as it is found, its own configuration above all
- `rights`: who may do what, as IAM says
- `documents`: what Firestore's REST API says of documents
- `checks/`: what `mailmirror doctor` looks at, a file for each subject
- `report`: findings, their summary and the exit code
- `doctor`: the checks one after the other
- `table`: findings for a person at a terminal
- `commands`: command lines to paste
"""
