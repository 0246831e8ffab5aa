"""Many runs from one file: a grid of suites, methods, shots and seeds, carried out by workers, with one status file.

Nothing here imports torch before a worker (or the look at a GPU) needs it.
"""
