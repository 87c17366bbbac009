"""Numbers from records. Nothing here writes a sentence."""
