"""The errors and warnings that a user is meant to see.

SlimError
 ├── DataError        images, labels, splits, masks or boxes do not fit
 ├── ModelError       an architecture, a checkpoint or a layer does not fit
 ├── SettingsError    a setting is out of range, or two do not go together
 ├── AnnotationError  judgements are missing or do not belong to the queries
 └── ArtifactError    a run folder lacks something, or another version made it
SlimWarning           the result stands, but read this before you trust it

Every message is one line: what must hold, what SLIM got instead, and what to do next.
"""


class SlimError(Exception):
    """A problem that the user can fix; its text is the whole message, on one line whatever names are in it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message.replace("\r", "\\r").replace("\n", "\\n"))


def first_line(error: BaseException) -> str:
    """What an error of another package says, to be quoted in a message: its first line, without the full stop.

    Examples
    --------
    >>> first_line(ValueError("Too short.\\nSee the manual."))
    'Too short'
    >>> first_line(KeyError())
    'KeyError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


class DataError(SlimError):
    """Images, labels, splits, masks or boxes do not fit."""


class ModelError(SlimError):
    """An architecture, a checkpoint or a layer does not fit."""


class SettingsError(SlimError):
    """A setting is out of range, or two settings conflict."""


class AnnotationError(SlimError):
    """Judgements are missing or do not belong to the queries."""


class ArtifactError(SlimError):
    """A run folder lacks something, or another version made it."""


class SlimWarning(UserWarning):
    """The result stands, but read this before you trust it."""
