"""The page of 03_benchmark: one file per section, with its figure, its table and its sentence."""
