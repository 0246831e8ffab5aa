"""Finished runs: what a run leaves in its folder, the runs of a tree, the rows of a table."""
