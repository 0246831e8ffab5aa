"""Turn a tree of runs into what a paper needs: tables, curves and one page. Nothing here imports torch."""
