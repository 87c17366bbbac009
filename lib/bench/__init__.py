"""Honest measuring: a worker process per backend, interleaved rounds, raw samples.

Importing this package imports nothing: a worker's cold start is to be its backend's alone.
"""
