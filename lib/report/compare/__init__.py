"""The page of 04_compare: one file per section, with its figure, its table and its sentence."""
