"""The one error that a user can mend: its message says what is wrong, where, and what to do."""


class InputError(ValueError):
    """Something given to lookalike (a file, an override, a checkpoint) does not fit.

    Verbs print its message alone, without a traceback. Everything else that is raised is a bug.
    """
