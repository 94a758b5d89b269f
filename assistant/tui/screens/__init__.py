"""What opens over the conversation."""

from assistant.tui.screens.ask_again import AskAgain, Question
from assistant.tui.screens.choose_profile import ChooseProfile
from assistant.tui.screens.dialogs import Confirm, EnterText
from assistant.tui.screens.first_run import FirstRun
from assistant.tui.screens.help import Help
from assistant.tui.screens.plugins import Panels, PluginOutput
from assistant.tui.screens.why import Why

__all__ = [
    "AskAgain",
    "ChooseProfile",
    "Confirm",
    "EnterText",
    "FirstRun",
    "Help",
    "Panels",
    "PluginOutput",
    "Question",
    "Why",
]
