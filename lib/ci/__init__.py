"""What the workflows on GitHub call. The YAML holds no logic: every decision is made, and tested, here."""


class RefusedError(Exception):
    """The question is well-formed and the answer is negative: the command ends with one line and exit status 1."""
