"""What was heard and answered, in one SQLite file that its owner can search, export and wipe."""

from assistant.history.records import KeptSession, KeptTurn, KeptWindow, privacy_line
from assistant.history.store import HistoryStore, history_path, wipe
from assistant.history.writer import HistoryWriter

__all__ = [
    "HistoryStore",
    "HistoryWriter",
    "KeptSession",
    "KeptTurn",
    "KeptWindow",
    "history_path",
    "privacy_line",
    "wipe",
]
