"""The one exception that this room raises for a mistake that the user can mend."""


class BackboneError(Exception):
    """A wrong name, file, text or option: one line that names the value, the place and the remedy."""
