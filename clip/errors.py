"""Errors of this room for mistakes that the user can correct."""


class BackboneError(Exception):
    """A wrong name, file, text or option: one line that names the value, the place and the remedy."""


class TooLongError(BackboneError):
    """A text has more tokens than fit.

    Attributes:
        text: the text, or the name in it.
        fact: what is wrong, without the remedy.
    """

    def __init__(self, text: str, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}; {remedy}")
        self.text, self.fact = text, fact
