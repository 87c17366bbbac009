"""The measured network as files: written from a run, checked from the files alone, used without torch."""

from lib.release.reader import Release
from lib.release.verifying import verify
from lib.release.writer import write_release

__all__ = ["Release", "verify", "write_release"]
