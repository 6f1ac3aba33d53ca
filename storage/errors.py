"""The base class of all errors that the program reports in one line."""


class UserError(Exception):
    """Something that the user can mend. The message says what, where and what to do; the program exits with 1."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # names of files may have several lines
