"""A release behind HTTP: uploads are checked and decoded, gathered into batches, and answered. Imports no torch."""
