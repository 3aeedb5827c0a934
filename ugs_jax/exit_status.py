"""Exit statuses of the command line, for modules with and without JAX."""

import signal

RESUMABLE = 75
"""Exit status of a run that was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a process that was ended by Ctrl-C, as in a shell."""

FAULTY = 1
"""Exit status of a check that found faults."""

UNREADABLE = 2
"""Exit status of a check whose input cannot be read."""
