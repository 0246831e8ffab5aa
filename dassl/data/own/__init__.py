"""A user's own tasks: how they are described, listed, read and split."""
