"""Checks of the lint step that ruff does not have: types and plain words, each with a record that only goes down."""
