"""The real salmonn-tiny on real recordings, in the suite and through the command line."""

import json

import numpy as np
import pytest
import soundfile
import torch

from salmonn_core import GenerationOptions
from salmonn_core.audio import read_audio
from salmonn_core.halves import LEAST
from salmonn_core.prompts import READING_WEIGHT
from tests.conftest import ROOT, SHARED, needs_shared, tone

pytestmark = pytest.mark.weights
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def model():
    from salmonn_core import Salmonn

    return Salmonn.from_pretrained("salmonn-tiny")


def word_error_rate(pairs):
    import jiwer

    return jiwer.wer([said for said, _ in pairs], [heard for _, heard in pairs])


def test_a_story_begins_with_what_is_heard_and_goes_on(model):
    from salmonn_core import Asked, GenerationOptions

    bell = model.encode(read_audio(EXAMPLES / "bell.flac"))
    options = GenerationOptions(24, min_new_tokens=12, lora_scale=0.5, heard_first=True)
    begun, *rest = model.stream(bell, "Tell a short story about what you hear.", options)
    assert begun.startswith(model.caption(bell))
    assert "bell" in begun
    assert len(model.ids("".join(rest))) >= 12
    # Answered beside another it is the same, and where only words are heard there is nothing to begin with.
    spoken = model.encode(read_audio(EXAMPLES / "phone-number.wav"))
    again = model.encode(read_audio(EXAMPLES / "bell.flac"))
    both = model.stream_many(
        [Asked(clip, "Tell a short story about what you hear.", options) for clip in (again, spoken)]
    )
    assert "".join(both[0]) == "".join((begun, *rest))
    assert not spoken.captions


@needs_shared
def test_it_hears_real_voices_it_was_not_trained_on(model):
    """Mostly LibriSpeech test-other; as long as speech can be, as the `transcribe` skill asks."""
    from salmonn_core.training.texts import plain

    rows = [json.loads(line) for line in (SHARED / "data/dev/speech.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["duration_s"] < 8 and len(row["text"].split()) > 3][:20]
    limits = [GenerationOptions(max_new_tokens=round(8 + 6 * row["duration_s"])) for row in rows]
    asked = zip(rows, limits, strict=True)
    heard = [
        plain(model.ask(SHARED / "data/dev" / row["path"], "Transcribe the speech.", limit)) for row, limit in asked
    ]
    rate = word_error_rate([(row["text"], text) for row, text in zip(rows, heard, strict=True)])
    assert rate < 0.58  # the LLM alone: 50 % when the second checkpoint was shipped


def test_the_example_is_transcribed(model):
    assert "please try your" in model.ask(EXAMPLES / "please-try-later.wav", "Transcribe the speech.").lower()


def test_speech_and_a_bird_are_not_described_alike(model):
    assert model.ask(EXAMPLES / "crow.flac", "Describe the sound.") != model.ask(
        EXAMPLES / "drums.flac", "Describe the sound."
    )


def test_sounds_are_named_and_speech_is_not(model):
    def names(file):
        return model.names(model.encode(read_audio(EXAMPLES / file)))

    assert "bell" in names("bell.flac").likely
    assert names("drums.flac").likely[0] == "music"
    assert not names("phone-number.wav").likely
    assert not names("please-try-later.wav").likely
    bell, drums = (model.encode(read_audio(EXAMPLES / file)) for file in ("bell.flac", "drums.flac"))
    assert {"bell", "music"} <= set(model.names(model.join([bell, drums])).likely)


def test_who_speaks_is_heard(model):
    speech = model.encode(read_audio(EXAMPLES / "phone-number.wav"))
    asked = "Who is speaking, a man or a woman?"
    assert model.names(speech, asked).voice == "woman"
    assert not model.names(speech)


def test_words_and_what_sounds_after_them_are_told_in_their_order(model):
    speech, drums = (read_audio(EXAMPLES / file) for file in ("phone-number.wav", "drums.flac"))
    first, *_, last = model.names(model.encode(np.concatenate((speech, drums)))).in_order
    assert first == "speech" != last


@needs_shared
def test_words_that_do_not_exist_are_not_written_and_names_are_as_the_profile_has_them():
    from assistant.core import SalmonnCore
    from assistant.profile import CoreSettings
    from assistant.records import GenerationSettings, Prompt

    asked = Prompt("Transcribe the speech.", GenerationSettings(max_new_tokens=180, reading_weight=READING_WEIGHT))
    core = SalmonnCore(CoreSettings(vocabulary=("Newberg",)))
    wave = read_audio(SHARED / "data/dev/speech/librispeech-test-other-0087.opus")
    pieces = list(core.stream(core.encode(wave), asked))
    assert "lobster" in "".join(pieces)  # letter by letter it is a "lopster"
    assert pieces[-1] == "Newberg"
    assert core.stream_many([(core.encode(wave), asked)]) == [pieces]
    core._model.expect(())
    assert list(core.stream(core.encode(wave), asked)) == [*pieces[:-1], "newburg"]


@needs_shared
def test_the_model_tells_speech_from_sounds(model):
    """84 of 100 when this was written; 17 of these 20."""
    from assistant.core import KIND_PROMPT

    right = 0
    options = GenerationOptions(max_new_tokens=4, pattern=KIND_PROMPT.settings.pattern)
    for kind in ("speech", "sound"):
        rows = [json.loads(line) for line in (SHARED / f"data/dev/{kind}.jsonl").read_text().splitlines()]
        for row in rows[:: len(rows) // 10][:10]:
            said = model.ask(SHARED / "data/dev" / row["path"], KIND_PROMPT.instruction, options)
            right += (said == "speech") == (kind == "speech")
    assert right >= 16


def test_a_second_question_about_a_window_encodes_nothing(model, monkeypatch):
    heard = model.encode(tone(2))
    monkeypatch.setattr(model, "whisper", None)
    assert "".join(model.stream(heard, "Describe the sound."))


def test_an_unpadded_clip_gives_tokens_for_its_own_length(model):
    assert len(model.encode(tone(2.4)).tokens) == 30
    assert len(model.encode(tone(0.2)).tokens) == 15  # padded to a second and a whole window


def test_the_lora_scale_is_a_knob_that_needs_no_reload(model):

    heard = model.encode(soundfile.read(EXAMPLES / "please-try-later.wav", dtype="float32")[0])
    full, bare, again = (
        "".join(model.stream(heard, "Transcribe the speech.", GenerationOptions(16, lora_scale=s))) for s in (1, 0, 1)
    )
    assert full == again != bare


def test_ask_answers_each_good_file_and_names_each_bad_one(assistant, tmp_path):
    silent, notes = tmp_path / "silent.wav", tmp_path / "notes.wav"
    soundfile.write(silent, np.zeros(32_000), 16_000)
    notes.write_text("no sound at all")
    files = [str(silent), str(EXAMPLES / "please-try-later.wav"), str(notes), "none.wav"]
    result = assistant("ask", *files, "--skill", "transcribe", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["file"] for row in rows] == [files[1]]
    assert set(rows[0]) >= {"file", "skill", "prompt", "text", "audio_s", "timings_ms"}
    assert set(rows[0]["timings_ms"]) == {"encode", "first_token", "total", "end_delay", "hooks"}
    said = result.stderr.strip().splitlines()
    assert len(said) == 3
    assert "notes.wav is not a sound file" in said[0]  # what cannot be opened is told before the model is loaded
    assert "is silent" in said[2]
    assert "Traceback" not in result.stderr
    assert result.returncode == 1


def test_slots_come_out_typed_whatever_is_heard(assistant):
    result = assistant("ask", str(EXAMPLES / "please-try-later.wav"), "--profile", "slots", "--json")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert row["words"]  # written down first: the record is kept to them
    assert list(row["slots"]) == ["device type", "house place", "date", "time", "person", "event name"]
    assert row["slots"]["device type"] in (None, "lights", "heating", "music", "coffee", "vacuum", "plug")


def test_a_file_goes_through_the_same_loop_as_a_microphone(assistant):
    result = assistant("listen", "--input", str(EXAMPLES / "phone-number.wav"), "--profile", "captions", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    names = [e["event"] for e in events]
    assert names[0] == "listening"
    assert names[-1] == "stopped"
    assert names.index("window_opened") < names.index("window_closed") < names.index("response")
    times = [event["t"] for event in events]
    assert times == sorted(times)
    assert result.returncode == 0


def test_raw_sound_on_standard_input_is_heard(assistant):
    import subprocess
    import sys

    wave = (np.concatenate((tone(0.5, 0.0), tone(1.5), tone(1.5, 0.0))) * 32_767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "assistant", "listen", "--input", "-", "--json"]
    result = subprocess.run(command, input=wave, capture_output=True, cwd=ROOT)
    names = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert "response" in names, result.stderr
    assert names[-1] == "stopped"


def test_a_second_question_reads_its_own_words_only(model, monkeypatch):
    crow = read_audio(EXAMPLES / "crow.flac")  # a clear sound: read in two parts its sums are rounded in another order
    wanted = "".join(model.stream(model.encode(crow), "Describe the sound."))
    again = model.encode(crow)
    assert "".join(model.stream(again, "Speech, sound or music?"))
    lengths = []
    prefill = model.llm.prefill
    monkeypatch.setattr(model.llm, "prefill", lambda p, *rest: lengths.append(len(p[0])) or prefill(p, *rest))
    assert "".join(model.stream(again, "Describe the sound.")) == wanted
    assert lengths == [len(model.ids("</Speech> Describe the sound.<|im_end|>\n<|im_start|>assistant\n"))]


ASKED = {"for": ["your name", "your address"], "when": ["later", "tomorrow"]}


def test_what_was_said_is_found_and_what_was_not_is_left_out(model):
    name, later = (model.encode(read_audio(EXAMPLES / f"{f}.wav")) for f in ("phone-number", "please-try-later"))
    assert model.spot(name, ASKED) == {"for": "your name", "when": None}
    assert model.spot(later, ASKED)["when"] == "later"
    assert model.spot(model.encode(read_audio(EXAMPLES / "crow.flac")), ASKED) == {"for": None, "when": None}


def test_a_record_of_what_was_said_needs_no_generation(model, monkeypatch):

    options = GenerationOptions(spot=ASKED, pattern=r'\{"for": <Said:for>, "when": <Said:when>\}')
    heard = model.encode(read_audio(EXAMPLES / "phone-number.wav"))
    model.transcript(heard)
    monkeypatch.setattr(model.llm, "prefill", None)
    assert list(model.stream(heard, "Fill in the fields.", options)) == ['{"for": "your name", "when": null}']
    assert model.answer_many([heard], "Fill in the fields.", options) == ['{"for": "your name", "when": null}']


def test_a_pattern_that_names_phrases_that_are_not_there_is_a_clear_error(model):
    from salmonn_core import GenerationOptions, UserError

    options = GenerationOptions(spot=ASKED, pattern=r'\{"size": <Said:size>\}')
    with pytest.raises(UserError, match="<Said:size>, but `spot` has no phrases of that name; it has for, when"):
        list(model.stream(model.encode(tone(1.0)), "Fill in the fields.", options))


def test_many_files_are_answered_like_each_alone(model):
    files = [EXAMPLES / name for name in ("crow.flac", "please-try-later.wav", "drums.flac", "phone-number.wav")]
    together = dict(model.ask_many(files, "Transcribe the speech.", batch=3))
    assert [together[index] for index in range(4)] == [model.ask(file, "Transcribe the speech.") for file in files]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_so_many_files_that_two_threads_share_them_are_answered_like_each_alone(model, two_threads):
    """At a LoRA scale that neither has yet, of which both need the weights at once."""
    options = GenerationOptions(max_new_tokens=6, lora_scale=0.8)
    waves = [tone(1.0 + index / 8) for index in range(LEAST)]
    together = dict(model.ask_many(waves, "Describe the sound.", options))
    assert [together[index] for index in range(LEAST)] == [model.ask(w, "Describe the sound.", options) for w in waves]


def test_clips_heard_together_are_heard_as_each_alone_to_the_bit(model):
    waves = [tone(seconds) for seconds in (0.4, 2.9, 1.3)]
    for alone, together in zip(map(model.encode, waves), model.encode_many(waves), strict=True):
        assert torch.equal(alone.tokens, together.tokens)
        assert alone.seconds == together.seconds


def test_windows_asked_about_before_and_fresh_ones_are_answered_together(model):
    heard = [model.encode(tone(seconds)) for seconds in (1.0, 2.0, 3.0)]
    wanted = ["".join(model.stream(clip, "Describe the sound.")).strip() for clip in heard]
    assert model.answer_many([model.encode(tone(1.0)), *heard[1:]], "Describe the sound.") == wanted


def test_int8_hears_the_same_words_as_float32(model):
    from salmonn_core import Salmonn

    exact = Salmonn.from_pretrained("salmonn-tiny", precision="fp32")
    file = EXAMPLES / "phone-number.wav"
    assert model.ask(file, "Transcribe the speech.") == exact.ask(file, "Transcribe the speech.")


def test_the_notebook_in_the_library_docs_runs(monkeypatch, capsys):
    import re

    monkeypatch.chdir(ROOT)
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(), re.DOTALL).group(1)
    exec(code, {})
    assert "examples/bell.flac" in capsys.readouterr().out


def test_files_asked_side_by_side_have_the_rows_of_each_alone(capsys):
    from assistant.commands import ask
    from assistant.commands.setup import make_turns
    from assistant.profile import load

    turns = make_turns(load("default"), lambda *_: None)
    files = [str(EXAMPLES / name) for name in ("crow.flac", "please-try-later.wav", "drums.flac", "phone-number.wav")]
    alone = [row for file in files for row in ask.rows([file], turns, None, None)]
    together = list(ask.rows(files, turns, None, None))
    turns.close()
    kept = ("file", "skill", "prompt", "words", "text", "slots", "actions")
    assert [[row.get(key) for key in kept] for row in together] == [[row.get(key) for key in kept] for row in alone]
