"""The program as a user runs it: help, lists, and what bad input gets. No weights are needed here."""

import json
import subprocess
import sys

import pytest

from assistant.commands.listen import Printer
from assistant.commands.output import print_rows
from assistant.events import Responded, TokenGenerated, TurnStarted, WindowClosed, WindowDropped
from assistant.records import Prompt, Response, Timings
from tests.conftest import ROOT


def one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert result.returncode != 0
    return lines[0]


def test_help_names_every_command(assistant):
    said = assistant("--help").stdout
    for command in ("ask", "listen", "demo", "devices", "doctor", "profiles", "plugins", "weights"):
        assert command in said


def test_help_imports_no_torch_no_textual_and_no_sound_device():
    code = (
        "import sys; sys.argv=['assistant','--help']\n"
        "import assistant.__main__ as m\n"
        "try: m.main()\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch','transformers','textual','sounddevice','numpy') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip().endswith("['numpy']") or result.stdout.strip().endswith("[]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ask", "x.wav", "--profile", "defalt"), "did you mean 'default'"),
        (("ask", "x.wav", "--skill", "a", "--prompt", "b"), "either --skill or --prompt"),
        (("listen", "--input", "none.wav"), "no such file: none.wav"),
        (("ask", "x.wav", "--prompt", " "), "--prompt is empty"),
        (("ask", "none.wav"), "no such file: none.wav"),
        (("profiles", "check", "nothing"), "no profile 'nothing'"),
        (("profiles", "show", "none.yaml"), "no such profile file"),
        (("weights", "path", "nothing"), "run: assistant weights pull"),
        (("weights", "pull", "nothing"), "unknown weights 'nothing'"),
    ],
)
def test_bad_input_gets_one_clear_line_and_a_nonzero_exit(assistant, arguments, said):
    assert said in one_line(assistant(*arguments))


def test_without_weights_it_says_what_to_run(assistant, tmp_path):
    said = one_line(assistant("ask", str(ROOT / "examples/crow.flac"), env={"ASSISTANT_CACHE": str(tmp_path)}))
    assert "run: assistant weights pull" in said


def test_a_file_that_is_no_sound_is_told_before_the_model_is_loaded(assistant, tmp_path):
    said = one_line(assistant("ask", str(ROOT / "README.md"), env={"ASSISTANT_CACHE": str(tmp_path)}))
    assert "README.md" in said
    assert "weights" not in said


def closed(number):
    return WindowClosed(
        window=number, kind="speech", reason="silence", start_s=number, duration_s=0.5, level_dbfs=-20.0
    )


def answered(number, streamed, final):
    """The events of an answer that a plugin may have made something else of."""
    yield TurnStarted(window=number, kind="speech", skill="s", prompt="p")
    for piece in streamed:
        yield TokenGenerated(window=number, text=piece)
    yield Responded(response=Response(final, "s", Prompt("p"), number, Timings()), audio_s=0.5)


@pytest.mark.parametrize("terminal", [False, True])
def test_an_answer_stands_beside_its_own_window_where_a_file_is_read_ahead(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    printer = Printer()
    for number in (1, 2, 3):
        printer(closed(number))
    for number, said in ((1, "one"), (2, "two")):
        for event in answered(number, [f" {said[0]}", said[1:]], said):
            printer(event)
    printer(WindowDropped(window=3, reason="because"))
    said = capsys.readouterr().out.replace("]  ", "] ")
    assert said == "\n[1.0 s, speech, 0.5 s] one\n\n[2.0 s, speech, 0.5 s] two\n\n[3.0 s, speech, 0.5 s] "
    assert not printer.waiting


@pytest.mark.parametrize("terminal", [False, True])
def test_an_answer_that_was_broken_off_says_so(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    printer = Printer()
    response = Response("The Lord of", "s", Prompt("p"), 1, Timings(), end="superseded")
    for event in (closed(1), *answered(1, ["The Lord of"], ""), Responded(response=response, audio_s=1.0)):
        printer(event)
    assert "(broken off: somebody talked on)\n" in capsys.readouterr().out


@pytest.mark.parametrize(("terminal", "line"), [(False, "[dog barks]"), (True, "a dog barks\n  [dog barks]")])
def test_what_a_plugin_makes_of_an_answer_is_printed_too(capsys, monkeypatch, terminal, line):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    printer = Printer()
    for event in (closed(1), *answered(1, ["a dog", " barks"], "[dog barks]")):
        printer(event)
    assert capsys.readouterr().out == f"\n[1.0 s, speech, 0.5 s] {line}\n"


def test_a_piped_table_has_a_line_a_row_and_an_empty_one_has_none(capsys):
    print_rows([{"name": "a", "file": "long" * 100}], as_json=False)
    print_rows([], as_json=False)
    assert capsys.readouterr().out.rstrip().splitlines()[1] == "a     " + "long" * 100


def test_the_screen_needs_a_terminal(assistant):
    assert "assistant listen" in one_line(assistant())


def test_a_profile_with_an_unknown_skill_is_refused(assistant, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nanswer: {speech: singing}\n")
    assert "no skill 'singing'; there are: captions" in one_line(assistant("profiles", "check", str(path)))


def test_all_mistakes_in_a_profile_are_told_at_once(assistant, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nhearing: {pre_rol_s: 1}\ngeneration: {temperature: hot}\n")
    result = assistant("profiles", "check", str(path))
    first, second = result.stderr.splitlines()
    assert result.returncode == 1
    assert "line 2, hearing.pre_rol_s: no such key (did you mean 'pre_roll_s'?)" in first
    assert "line 3, generation.temperature: input should be a valid number" in second
    path.write_text("extends: default\nplugins: {tea: {}, captions: {most_words: 0}}\n")
    said = assistant("profiles", "check", str(path)).stderr
    assert "plugins.tea: no such plugin" in said
    assert "plugins.captions.most_words: input should be greater" in said


def test_settings_for_a_plugin_that_is_not_there_are_refused(assistant, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nplugins: {tea: {}}\n")
    assert "plugins.tea: no such plugin" in one_line(assistant("profiles", "check", str(path)))


def test_lists_are_json_on_request(assistant):
    for command in ("profiles", "plugins", "weights"):
        rows = [json.loads(line) for line in assistant(command, "list", "--json").stdout.splitlines()]
        assert rows
        assert all("name" in row for row in rows)


def test_doctor_checks_everything_in_json(assistant):
    rows = [json.loads(line) for line in assistant("doctor", "--json").stdout.splitlines()]
    assert [row["check"] for row in rows] == [
        "python", "torch", "processor", "weights", "disk", "microphone", "profiles", "plugins",
    ]  # fmt: skip
    assert rows[2]["detail"].startswith("hears in")
