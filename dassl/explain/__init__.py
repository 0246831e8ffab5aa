"""What a finished run has learned, shown: words near its context, tasks that share, places in an image."""
