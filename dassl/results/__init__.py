"""Finished runs: their records, the runs of a tree, the rows of a table."""
