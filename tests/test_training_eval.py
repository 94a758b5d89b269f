"""Measuring: a model that is right scores right, one that is wrong does not, and intervals hold the value."""

import json

import numpy as np
import pytest
import soundfile

from salmonn_core.errors import UserError
from salmonn_core.namer import mentioned
from salmonn_core.training.metrics import families, holds, ratio, slots_right, word_errors


@pytest.fixture
def manifest(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1, np.float32), 16000)
    rows = [
        {"kind": "speech", "text": "wake me at six", "slots": [["time", "six"]]},
        {"kind": "speech", "text": "who wrote hamlet", "answer": "Shakespeare"},
        {"kind": "event", "labels": ["crying baby"], "caption": "A baby cries."},
        {"kind": "music", "instruments": ["flute"], "tempo": "slow", "labels": ["music"], "caption": "Slow flute."},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"path": "a.wav", "text": row.get("caption")} | row) + "\n" for row in rows))
    return path


def table(manifest, answers):
    from salmonn_core.training.evaluate import chosen, measure_set
    from salmonn_core.training.measure import MEASURES

    clips = chosen(manifest, None, seed=0)
    queue = [answers(clip, task) for clip in clips for task, measure in MEASURES.items() if measure.allows(clip)]
    return {(s.task, s.measure): s for s in measure_set("m", clips, lambda *_: queue.pop(0), seed=0)[0]}


def right(clip, task):
    return {
        "asr": clip.text,
        "kind": {"event": "sound"}.get(clip.kind, clip.kind),
        "slots": '{"time": "six"}',
        "QA": "It was Shakespeare.",
        "label": "crying baby",
        "audiocaption": "A baby is crying.",
        "music_description": "Slow music on a flute.",
        "story": "The baby was crying all night long, and nobody in the old house could find out why it did.",
    }[task]


def test_a_model_that_is_right_scores_right(manifest):
    found = table(manifest, right)
    assert found.pop(("transcribe", "WER")).value == 0
    assert {score.value for score in found.values()} == {1.0}
    assert len(found) == 13


def test_a_model_that_says_anything_scores_nothing(manifest):
    found = table(manifest, lambda clip, task: "nothing")
    assert found.pop(("transcribe", "WER")).value == 1
    assert found.pop(("spoken questions", "following rate")).value == 1
    assert {score.value for score in found.values()} == {0.0}


def test_numbers_contractions_and_british_spellings_are_no_errors():
    assert word_errors("it's twenty two", "It is 22.") == (0, 3)
    assert word_errors("the neighborhood theaters", "The neighbourhood theatres") == (0, 3)
    assert word_errors("a black cat", "a black dog") == (1, 3)


def test_what_names_a_label():
    assert mentioned("crying baby", "A baby cries and is crying.")
    assert not mentioned("crying baby", "A baby sleeps.")
    assert not mentioned("cat", "Rain is scattered.")


def test_an_answer_holds_its_key_as_whole_words():
    assert holds("New York", "In new york, I think.")
    assert not holds("art", "A party.")


def test_slot_values_are_compared_normalised():
    assert slots_right({"time": "Six", "city": None}, {"time": "six", "city": "rome"}) == (1, 2, 1)
    assert slots_right({"time": "zero P.M.", "currency": "u. s. d."}, {"time": "zero pm", "currency": "usd"}) == (
        2,
        2,
        2,
    )
    assert slots_right({"time": "a minute"}, {"time": "aminute"}) == (0, 1, 1)


def test_the_interval_is_seeded_and_holds_the_value():
    parts = np.random.default_rng(1).integers(0, 2, 50)
    value, low, high = ratio(parts, np.ones(50), seed=3)
    assert low < value < high
    assert ratio(parts, np.ones(50), seed=3) == (value, low, high)


def test_assistant_eval_measures_a_manifest(manifest, monkeypatch, capsys):
    import assistant.commands.eval as command

    class Repeats:
        name = "fake"

        def encode(self, samples):
            return samples

        def stream(self, audio, prompt, cancelled=lambda: False):
            yield "speech" if prompt.settings.pattern else "who wrote hamlet"

    monkeypatch.setattr(command, "load_core", lambda settings: Repeats())
    command.run(str(manifest), "default", None, as_json=True)
    rows = {(r["task"], r["measure"]): r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["speech, sound or music", "accuracy"]["value"] == 0.5
    assert rows["spoken questions", "following rate"]["value"] == 0
    assert rows["transcribe", "WER"]["clips"] == 2


def test_the_cascade_is_asked_only_what_is_asked_aloud(manifest):
    from salmonn_core.training.evaluate import CASCADE, chosen, measure_cascade

    path = manifest.parent / "more.jsonl"
    scene = {"path": "a.wav", "task": "QA", "Q": "Which sound comes last?", "text": "rain"}
    aloud = {"path": "a.wav", "task": "co_reasoning", "text": "rain", "said": "what is that"}
    path.write_text(manifest.read_text() + json.dumps(scene) + "\n" + json.dumps(aloud) + "\n")
    found = measure_cascade("m", chosen(path, None, seed=0), lambda _: "Shakespeare, I think.", seed=0)
    scores = {(s.task, s.measure): (s.value, s.clips) for s in found}
    assert scores[f"spoken questions ({CASCADE})", "right on the key"] == (1.0, 1)
    assert scores[f"co-reasoning ({CASCADE})", "right on the key"] == (0.0, 1)


@pytest.mark.parametrize(
    ("text", "families_named"),
    [
        ("Fast music played on electric guitar.", {"plucked strings"}),
        ("A harpsichord, not a harp, and a solo on the English horn.", {"keyboard", "plucked strings", "woodwind"}),
        ("A saxophone over drums.", {"woodwind", "percussion"}),
        ("Orchestral music.", set()),
    ],
)
def test_instruments_count_by_their_family(text, families_named):
    assert families(text) == families_named


def test_a_piano_for_a_harpsichord_is_right_and_a_flute_is_not():
    from salmonn_core.training.corpus import Clip
    from salmonn_core.training.measure import MEASURES

    def marks(answer, **row):
        return [mark.part for mark in MEASURES["music_description"].marks(Clip("a.wav", "music", "", "", row), answer)]

    assert marks("Slow music on a piano.", instruments=["harpsichord"], tempo="slow") == [1, 1]
    assert marks("Fast music on a flute.", instruments=["harpsichord"], tempo="slow") == [0, 0]
    assert marks("A trumpet plays.", labels=["music", "trombone"]) == [1]


def test_a_peer_that_cannot_run_is_told_before_anything_is_measured(monkeypatch, tmp_path):
    from salmonn_core.training import evaluate, peer
    from salmonn_core.training.config import EvaluateConfig

    monkeypatch.setattr(peer, "locate", lambda name: tmp_path)
    monkeypatch.setattr(peer, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(evaluate.Salmonn, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"the peer needs Whisper's tokenizer.json"):
        evaluate.evaluate(EvaluateConfig(out=tmp_path, sets=[str(tmp_path / "mine.jsonl")]))
