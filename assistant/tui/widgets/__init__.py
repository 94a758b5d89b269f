"""The parts of the screen."""

from assistant.tui.widgets.caption import Caption
from assistant.tui.widgets.meter import LevelMeter
from assistant.tui.widgets.panels import PanelBoard
from assistant.tui.widgets.status import StatusLine
from assistant.tui.widgets.strip import WindowStrip, WindowTile
from assistant.tui.widgets.turn import Conversation, TurnView

__all__ = ["Caption", "Conversation", "LevelMeter", "PanelBoard", "StatusLine", "TurnView", "WindowStrip", "WindowTile"]
