"""Records of what ran, their statistics, and the machine they came from. Imports neither torch nor any runtime."""
