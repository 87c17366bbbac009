"""A rehearsal of the workflow: every `run:` step of its job graph, on this machine, with GitHub's rules.

    python -m tests.rehearsal pull_request

`runner` walks the jobs and `job` executes the steps of one; `expressions` are the few that the workflows need, `hub` is
what travels between jobs, and `standins` holds what is replaced and why. `scenarios` are the walks of `make rehearse`.
"""
