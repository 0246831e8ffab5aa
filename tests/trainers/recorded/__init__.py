"""Numbers of the compared methods, recorded from their originals."""
