"""A page in the browser on which finished runs answer for a picture; docs/try.md describes it."""
