"""The one exception that is shown to a user as a single line."""


class UserError(Exception):
    """A mistake that the user can mend: the message names the value, the place and the remedy.

    Command-line programs print the message without a stack trace and exit with code 2.
    """
