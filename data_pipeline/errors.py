"""The one error type for everything that can be wrong with a user's files."""


class DataError(ValueError):
    """Input data that cannot be used; the message names the file, what was expected, what was found and the fix."""
