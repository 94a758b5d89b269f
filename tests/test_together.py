"""Files that are answered side by side are answered as each alone, in one batch, and cost each other nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from assistant.commands import ask
from assistant.core import Core
from assistant.errors import UserError
from assistant.plugin_host import PluginHost
from assistant.profile import Profile
from assistant.records import GenerationSettings, Prompt
from assistant.testing import FakeCore
from assistant.together import side_by_side
from assistant.turns import Turns
from tests.conftest import ROOT

QUESTION = Prompt("What is it?", GenerationSettings())


class TogetherCore(FakeCore):
    """Notes how many questions came at once; the answer to a long clip is two questions away, and 13 has none."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def stream_many(self, questions: Sequence[tuple[Any, Prompt]]) -> list[list[str]]:
        self.batches.append(len(questions))
        if any(audio == 13 for audio, _ in questions):
            raise UserError("thirteen cannot be answered")
        return [["it is ", str(audio)] for audio, _ in questions]


def conversation(length: int, core: Core, host: PluginHost) -> str:
    audio = core.encode(np.zeros(length))
    answer = "".join(core.stream(audio, QUESTION))
    return answer + (" " + "".join(core.stream(audio, QUESTION)) if length > 100 else "")


def answered(core: TogetherCore, lengths: Sequence[int], hosts: int) -> list[str]:
    jobs: list[Callable[[Core, PluginHost], str]] = [partial(conversation, length) for length in lengths]
    return list(side_by_side(core, [object()] * hosts, jobs))  # type: ignore[list-item]


def test_questions_that_wait_are_answered_together_and_come_back_in_order() -> None:
    core = TogetherCore()
    assert answered(core, [1, 200, 3, 4, 5], hosts=3) == [
        "it is 1",
        "it is 200 it is 200",
        "it is 3",
        "it is 4",
        "it is 5",
    ]
    assert core.batches == [3, 3]


def test_a_question_that_cannot_be_answered_costs_only_its_own_conversation() -> None:
    def careful(length: int, core: Core, host: PluginHost) -> str:
        try:
            return conversation(length, core, host)
        except UserError as error:
            return str(error)

    jobs = [partial(careful, length) for length in (1, 13, 3)]
    found = list(side_by_side(TogetherCore(), [object()] * 3, jobs))  # type: ignore[list-item]
    assert found == ["it is 1", "thirteen cannot be answered", "it is 3"]


def test_what_goes_wrong_in_a_conversation_is_not_hidden() -> None:
    def broken(core: Core, host: PluginHost) -> str:
        list(core.stream(1, QUESTION))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(side_by_side(TogetherCore(), [object()], [broken]))  # type: ignore[list-item]


def test_ask_answers_files_side_by_side_with_plugins_of_their_own(
    host: PluginHost, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    core = TogetherCore()
    files = [str(ROOT / f"examples/{name}") for name in ("bell.flac", "missing.wav", "crow.flac", "phone-number.wav")]
    rows = list(ask.rows(files, Turns(core, host, profile), None, None))
    assert [row["file"] for row in rows] == [files[0], files[2], files[3]]
    assert all(row["text"].startswith("it is") for row in rows)
    assert max(core.batches) == 3
    assert "missing.wav" in capsys.readouterr().err
