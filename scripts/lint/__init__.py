"""Checks of the lint step besides ruff: types and plain words, each with a record that only goes down."""
