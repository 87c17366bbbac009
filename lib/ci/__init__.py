"""What the workflows on GitHub call. The YAML holds no logic: every decision is made, and tested, here."""
