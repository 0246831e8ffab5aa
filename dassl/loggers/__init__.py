"""Where the points of a run's curves go: one file for each logger, which enters itself in LOGGERS."""
