"""What this room raises for a mistake that the user can mend."""


class BackboneError(Exception):
    """A wrong name, file, text or option: one line that names the value, the place and the remedy."""


class TooLongError(BackboneError):
    """A text has more tokens than fit.

    Attributes:
        text: the text, or the name in it.
        tokens: how many it has, with start and end.
    """

    def __init__(self, message: str, text: str, tokens: int) -> None:
        super().__init__(message)
        self.text, self.tokens = text, tokens
