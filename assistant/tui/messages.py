"""What the threads tell the screen, in the past tense."""

from __future__ import annotations

from textual.message import Message

from assistant.errors import UserError
from assistant.events import Event
from assistant.profile import Profile
from assistant.records import AudioWindow


class Happened(Message):
    """The loop emitted an event."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class WindowHeard(Message):
    """A window closed; here is its sound."""

    def __init__(self, window: AudioWindow) -> None:
        super().__init__()
        self.window = window


class ReplayEnded(Message):
    """The speaker is silent again."""

    def __init__(self, error: UserError | None = None) -> None:
        super().__init__()
        self.error = error


class ProfileSwitched(Message):
    """Another profile is in force."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile


class SwitchFailed(Message):
    """The old profile stays in force."""

    def __init__(self, error: UserError) -> None:
        super().__init__()
        self.error = error


class LoopEnded(Message):
    """The loop cannot go on; without an error it was told to stop."""

    def __init__(self, error: UserError | None) -> None:
        super().__init__()
        self.error = error


class WindowSelected(Message):
    """The person chose a window."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
