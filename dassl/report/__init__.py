"""From a tree of runs to what goes into a paper: tables, curves and one page. Nothing here imports torch."""
