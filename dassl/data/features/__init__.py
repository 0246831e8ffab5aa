"""Stored image features: the store, its files, and a command that lists and checks a store."""
