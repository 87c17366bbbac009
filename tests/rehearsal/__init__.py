"""A rehearsal of the workflow: every `run:` step of its job graph, on this machine, with GitHub's rules.

    python -m tests.rehearsal --event pull_request

`expressions` is GitHub's expression language, `workflow` reads the files, `runner` executes jobs and steps, and
`standins` holds what is replaced and why. `scenarios` are the walks that `make rehearse` takes.
"""
