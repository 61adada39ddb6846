"""The errors of the live service, within the package's one exception family."""

from __future__ import annotations

from xdm.schema import InternalError, UsageError


class ConflictError(UsageError):
    """An event_id that is stored already with other content."""


class StateError(UsageError):
    """A state file that cannot be opened, or is no state of ours."""


class StateUnavailableError(InternalError):
    """The state could not be read or written just now (a full disk, a locked file): the same request may work later."""


class UnknownItemError(UsageError):
    """An item that a question is about, and that has no vector."""


class UnknownBundleError(UsageError):
    """A bundle that is not in the models folder, or none to go back to."""
