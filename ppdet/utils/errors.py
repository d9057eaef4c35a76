"""What all errors that a user can act on have in common, and those that several rooms raise."""


class UserError(Exception):
    """A mistake that a user can mend: tools print the message, one line, without a traceback.

    The classes are also ValueErrors and the like. Before an `except` for one of these, or for Exception, around code
    of the project stands `except UserError: raise`, or a message that says what to do would become another.
    """

    user_error = True


class DataError(UserError, ValueError):
    """Data that cannot be used: the message names the file, what was expected, and what to do."""
