"""Many runs from one file: workers carry out a grid of suites, methods, shots and seeds, with one status file.

Nothing here imports torch before a worker or the search for GPUs needs it.
"""
