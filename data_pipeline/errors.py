"""The error type for all faults in a user's files."""


class DataError(ValueError):
    """Error for input data that cannot be used. The message names the file, the fault and the fix."""
