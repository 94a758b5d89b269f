"""Training data: corpora in their own layouts, bad manifests told with their line, sets that are made once."""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch

from salmonn_core.errors import UserError
from salmonn_core.training.config import Corpus, PrepareConfig
from salmonn_core.training.corpora import entries
from salmonn_core.training.corpus import WHOLE, Clip, cut, load_clips
from salmonn_core.training.manifests import check_audio, read_clip, read_manifest
from salmonn_core.training.texts import Sentence


def sound(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(len(str(path))).normal(0, 0.1, int(16000 * seconds)).astype(np.float32)
    soundfile.write(path, wave, 16000)


def librispeech(folder):
    sound(folder / "84/121123/84-121123-0000.flac")
    (folder / "84/121123/84-121123.trans.txt").write_text("84-121123-0000 GO, DO YOU HEAR\n")


def common_voice(folder):
    sound(folder / "clips/a.wav")
    (folder / "validated.tsv").write_text('client_id\tpath\tsentence\nc1\ta.wav\tHe said "go.\n')


def audiocaps(folder):
    sound(folder / "audio/Yabc.wav")
    (folder / "train.csv").write_text(
        "audiocap_id,youtube_id,start_time,caption\n1,abc,30,A dog barks\n2,gone,0,Rain\n"
    )


def clotho(folder):
    sound(folder / "development/rain.wav")
    captions = ",".join(f"caption_{n}" for n in range(1, 6))
    (folder / "clotho_captions_development.csv").write_text(f'file_name,{captions}\nrain.wav,"Rain, hard",b,c,d,e\n')


def esc_50(folder):
    sound(folder / "audio/1-1-A-10.wav")
    (folder / "meta").mkdir()
    rows = "1-1-A-10.wav,1,10,sea_waves\n5-1-A-10.wav,5,10,rain\n"
    (folder / "meta/esc50.csv").write_text("filename,fold,target,category\n" + rows)


def musiccaps(folder):
    sound(folder / "xyz_30.wav")
    head = "ytid,start_s,end_s,is_audioset_eval,caption\n"
    (folder / "musiccaps-public.csv").write_text(head + "xyz,30,40,False,A slow tune\nnot,0,10,True,B\n")


@pytest.mark.parametrize(
    ("layout", "build", "texts"),
    [
        ("librispeech", librispeech, ["go do you hear"]),
        ("common-voice", common_voice, ["he said go"]),
        ("audiocaps", audiocaps, ["A dog barks"]),
        ("clotho", clotho, ["Rain, hard", "b", "c", "d", "e"]),
        ("esc-50", esc_50, ["The sound of sea waves."]),
        ("musiccaps", musiccaps, ["A slow tune"]),
    ],
)
def test_a_corpus_is_read_in_its_own_layout(tmp_path, layout, build, texts):
    build(tmp_path)
    rows = entries(Corpus(layout=layout, path=tmp_path, name="mine"))
    assert [row["text"] for row in rows] == texts
    assert all(row["source"] == layout and row["license"] for row in rows)
    assert all(len(read_clip(row["path"])) for row in rows)


def test_a_corpus_in_another_layout_is_told(tmp_path):
    with pytest.raises(UserError, match=r"meta/esc50\.csv is missing"):
        entries(Corpus(layout="esc-50", path=tmp_path, name="mine"))


def test_official_annotations_and_json_lines_say_the_same(tmp_path):
    sound(tmp_path / "a.wav")
    sound(tmp_path / "b.wav")
    rows = [
        {"path": "a.wav", "text": "Hello.", "task": "asr"},
        {"path": "a.wav", "expand_wav": ["b.wav"], "text": "Yes.", "task": "QA", "Q": "Are there two?"},
        {"path": "a.wav", "text": "A hiss.", "task": "audiocaption"},
    ]
    (tmp_path / "o.json").write_text(json.dumps({"annotation": rows}, indent=1))
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    official, lines = load_clips([tmp_path / "o.json"]), load_clips([tmp_path / "o.jsonl"])
    assert [(c.task, c.text, c.caption) for c in official] == [(c.task, c.text, c.caption) for c in lines]
    assert [c.task for c in official] == ["asr", "QA", "audiocaption"]
    assert len(read_clip(official[1].path)) == 16000 + 1600 + 16000


def test_a_question_of_the_manifest_is_asked_and_answered_with_its_text(tmp_path):
    from salmonn_core.training.tasks import draw

    (tmp_path / "o.jsonl").write_text('{"path": "a.wav", "text": "Yes.", "task": "QA", "Q": "Are there two?"}\n')
    example = draw(load_clips([tmp_path / "o.jsonl"])[0], "instruct", {}, random.Random(0))
    assert (example.instruction, example.answer, example.clip.text) == ("Are there two?", "Yes.", "")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"path": "gone.wav", "text": "a"}', "no such file"),
        ('{"path": "a.wav", "text": " "}', "the text of a.wav is empty"),
        ('{"path": "a.wav", "text": "a", "task": "asrr"}', "unknown task 'asrr' (did you mean 'asr'?)"),
        ('{"path": "text.wav", "text": "a"}', "is not a sound file that can be read"),
        ('{"path": "a.wav", "text": }', "no JSON"),
        ('{"text": "a"}', "an entry needs the fields path and text"),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_bad_data_is_told_before_training_with_file_and_line(tmp_path, row, complaint, suffix):
    sound(tmp_path / "a.wav")
    (tmp_path / "text.wav").write_text("no sound")
    manifest = tmp_path / f"m.{suffix}"
    good = '{"path": "a.wav", "text": "fine"}'
    lines = [good, row] if suffix == "jsonl" else ['{"annotation": [' + good + ",", row + "]}"]
    manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as raised:
        check_audio([manifest], quiet=True)
    assert f"{manifest}, line 2: " in str(raised.value)
    assert complaint in str(raised.value)


def test_mixtures_know_their_background_and_an_interrupted_set_is_finished(tmp_path):
    from salmonn_core.training.prepare import prepare

    sound(tmp_path / "s.wav", 2.0)
    sound(tmp_path / "n.wav")
    (tmp_path / "s.jsonl").write_text('{"path": "s.wav", "text": "hello", "license": "CC0", "source": "me"}\n')
    noise = {
        "path": "n.wav",
        "kind": "event",
        "labels": ["rain"],
        "caption": "Rain.",
        "license": "CC-BY",
        "source": "n",
    }
    (tmp_path / "n.jsonl").write_text(json.dumps(noise) + "\n")
    mixtures = {"speech": str(tmp_path / "s.jsonl"), "sounds": str(tmp_path / "n.jsonl"), "count": 3}
    corpus = {"layout": "manifest", "path": tmp_path / "s.jsonl", "name": "mine-train-speech"}
    config = PrepareConfig(out=tmp_path / "set", corpora=[corpus], mix=[mixtures])
    prepare(config)
    manifest = tmp_path / "set/mix0-train-speech.jsonl"
    whole = manifest.read_text()
    manifest.write_text(whole[: len(whole) - 40])  # cut in its last line
    prepare(config)
    assert manifest.read_text() == whole
    rows = read_manifest(manifest)
    assert [(row["text"], row["background"]) for row in rows] == [("hello", ["rain"])] * 3
    assert all(0.0 <= row["snr_db"] <= 15.0 for row in rows)
    licenses = (tmp_path / "set/LICENSES.md").read_text()
    assert "| me | CC0 | 4 |" in licenses
    assert "| n | CC-BY | 3 |" in licenses


def test_sentences_with_words_that_were_seldom_heard_come_first():
    from salmonn_core.training.coverage import rarest_first, words_heard

    said = ["the dog barks"] * 20 + ["the cat is here"]
    pool = [Sentence(text, "s", "l") for text in ("the dog barks!", "A cat barks.", "The lantern.", "A lantern.")]
    chosen = rarest_first(pool, words_heard(said), 3)
    # Once a lantern was said, the other sentence about it is worth less than the cat.
    assert [sentence.text for sentence in chosen] == ["A lantern.", "A cat barks.", "The lantern."]


def test_lists_hold_the_frequent_words_that_were_seldom_heard():
    from salmonn_core.training.coverage import word_lists, words_heard

    lists = word_lists(words_heard(["kitchen garden"] * 10 + ["people garden"] * 8))
    listed = words_heard(sentence.text for sentence in lists)
    assert (listed["kitchen"], listed["garden"], listed["people"], listed["window"]) == (0, 0, 2, 7)
    assert all(len(sentence.text.split()) == 7 for sentence in lists[:-1])


@pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")
def test_a_set_is_filled_up_with_the_words_it_lacks_and_finished_after_an_interruption(tmp_path):
    from salmonn_core.training.prepare import prepare

    (tmp_path / "books").mkdir()
    (tmp_path / "books/LICENSES.json").write_text('{"b.txt": "CC0"}')
    book = "We went to the old house. The lighthouse keeper was asleep. We went to the house again."
    (tmp_path / "books/b.txt").write_text(book)
    sound(tmp_path / "s.wav", 2.0)
    had = [json.dumps({"path": "s.wav", "text": "we went to the old house again"}) + "\n"] * 9
    (tmp_path / "s.jsonl").write_text("".join(had))

    def parts(*cover):
        part = {"engine": "flite", "cover": [str(tmp_path / pattern) for pattern in cover]}
        return [part | {"books": tmp_path / "books", "count": 1}, part | {"words": True, "count": 2}]

    prepare(PrepareConfig(out=tmp_path / "set", speak=parts("s.jsonl")))
    spoken = read_manifest(tmp_path / "set/flite-rare-books-train-speech.jsonl")
    assert [row["text"] for row in spoken] == ["the lighthouse keeper was asleep"]
    prepare(PrepareConfig(out=tmp_path / "set", speak=parts("s.jsonl", "set/*.jsonl")))
    assert read_manifest(tmp_path / "set/flite-rare-books-train-speech.jsonl") == spoken
    assert len(read_manifest(tmp_path / "set/flite-words-train-speech.jsonl")) == 2


def piper_voice(folder, name, **settings):
    spells = {"^": [1], "$": [2], "_": [0], "h": [7], "ɑ": [8, 9]}
    common = {"phoneme_id_map": spells, "espeak": {"voice": "en-us"}, "audio": {"sample_rate": 16000}}
    tuned = {"inference": {"noise_scale": 0.6, "length_scale": 1.2, "noise_w": 0.8}}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(b"")
    (folder / f"{name}.onnx.json").write_text(json.dumps(common | tuned | settings))


class FakeOnnx:
    """Says half a second of noise and remembers what it was given."""

    SessionOptions = type("SessionOptions", (), {})
    asked: ClassVar[list[dict[str, np.ndarray]]] = []

    def __init__(self, *_, **__):
        pass

    InferenceSession = property(lambda self: lambda *_, **__: self)

    def run(self, _, inputs):
        self.asked.append(inputs)
        return [np.full((1, 1, 8000), 0.5, np.float32)]


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
def test_a_folder_of_piper_voices_speaks_in_each_of_its_speakers(tmp_path, monkeypatch):
    from salmonn_core.training.speak import render, takes
    from salmonn_core.training.voices import Piper

    monkeypatch.setitem(sys.modules, "onnxruntime", onnx := FakeOnnx())
    piper_voice(tmp_path / "voices", "joe")
    piper_voice(tmp_path / "voices", "many", num_speakers=2)
    piper = Piper(tmp_path / "voices")
    assert piper.voices == ["joe", "many#0", "many#1"]
    wave = piper.speak("Ha", "many#1", speed=2.0)
    asked = onnx.asked.pop()
    assert (len(wave), wave.dtype) == (8000, np.float32)
    assert asked["input"].tolist()[0][:2] == [1, 0]
    assert asked["input"].tolist()[0][-1] == 2
    assert {7, 8, 9} <= set(asked["input"][0].tolist())
    assert asked["scales"].tolist() == pytest.approx([0.6, 0.6, 0.8])
    assert asked["sid"].tolist() == [1]
    pool = [Sentence(f"Sentence {word}.", "s", "l") for word in "abcdefghijkl"]
    plan = list(takes("piper", "train", pool, 0, piper.voices))
    assert {take.voice for take in plan} <= set(piper.voices)
    assert len({take.voice for take in plan}) > 1
    assert len(render(plan[0], piper)) == pytest.approx(8000 / plan[0].speed, abs=2)


def test_a_folder_without_a_piper_voice_is_told(tmp_path):
    from salmonn_core.training.voices import Piper

    with pytest.raises(UserError, match=r"no Piper voice in .*NAME\.onnx\.json"):
        Piper(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"has no a\.onnx\.json beside it"):
        Piper(tmp_path)


def test_rendered_music_is_what_its_facts_say(tmp_path):
    import shutil

    from salmonn_core.training.music import FONTS
    from salmonn_core.training.prepare import prepare

    if shutil.which("fluidsynth") is None or not any(font.exists() for font in FONTS):
        pytest.skip("fluidsynth or a sound font is not installed")
    prepare(PrepareConfig(out=tmp_path, music={"count": 2, "seconds": 2.0}))
    rows = read_manifest(tmp_path / "music-train-music.jsonl")
    assert all(row["instruments"][0] in row["caption"] and row["tempo"] in row["caption"].lower() for row in rows)
    assert all(np.abs(read_clip(row["path"])).max() > 0.5 for row in rows)
    assert all(("drums" in row["caption"]) == row["drums"] for row in rows)
    assert len({row["caption"] for row in rows}) == 2


@pytest.fixture
def heard(tmp_path):
    """Manifest rows of short sounds and of two voices."""
    for name in ("dog", "rain", "cow", "her", "him"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(len(name)).normal(0, 0.1, 16000), 16000)
    row = {"duration_s": 1.0, "source": "s", "license": "CC0"}
    sounds = [
        row | {"path": str(tmp_path / f"{n}.wav"), "kind": "event", "labels": [label], "caption": label}
        for n, label in (("dog", "dog bark"), ("rain", "rain"), ("cow", "cow moo"))
    ]
    voices = [
        row | {"path": str(tmp_path / f"{n}.wav"), "text": "turn the light on", "speaker": f"kokoro:{voice}"}
        for n, voice in (("her", "af_bella"), ("him", "bm_george"))
    ]
    return voices, sounds


def test_the_answer_of_every_scene_is_true_of_its_clips(heard):
    from salmonn_core.training.scenes import MAKERS, NUMBERS

    voices, sounds = heard
    asked = {}
    for maker in MAKERS:
        for seed in range(40):
            parts, question, answer = maker(voices, sounds, random.Random(seed))
            labels = [p["labels"][0] if "labels" in p else "words" for p in parts]
            asked.setdefault(maker.__name__, set()).add(answer)
            if "how many" in question.lower():
                assert answer == NUMBERS[len(set(labels))]
            elif question.startswith("Is the"):
                first, second = question[7:-1].split(" before or after the ")
                assert answer == ("before" if labels.index(first) < labels.index(second) else "after")
            elif "words before or after" in question:
                assert answer == ("before" if labels[0] == "words" else "after")
            elif "first or last" in question or question.startswith("Which sound comes first"):
                assert answer == labels[0]
            elif question.startswith("Which sound"):
                assert answer in set(labels) - {"words"}
            elif question.startswith("Who"):
                assert answer == {"her": "woman", "him": "man"}[Path(parts[0]["path"]).stem]
            else:
                assert answer in ("turn", "on")
    assert all(len(answers) > 1 for answers in asked.values())  # never the same answer to a question


def test_scenes_without_a_known_voice_or_two_sounds_are_told(heard):
    from salmonn_core.training.scenes import check_parts

    voices, sounds = heard
    check_parts(voices, sounds, "scenes")
    with pytest.raises(UserError, match=r"scenes: .* no short clip is of a man's voice"):
        check_parts(voices[:1], sounds, "scenes")
    with pytest.raises(UserError, match="at least two different sounds, and have 1"):
        check_parts(voices, sounds[:1], "scenes")


def test_scenes_are_written_as_an_official_manifest_and_read_back(heard, tmp_path):
    from salmonn_core.training.config import PrepareConfig
    from salmonn_core.training.prepare import prepare

    voices, sounds = heard
    for name, rows in (("voices", voices), ("sounds", sounds)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = tmp_path / "set"
    config = {"out": out, "scenes": [
        {"name": "scenes", "speech": tmp_path / "voices.jsonl", "sounds": tmp_path / "sounds.jsonl", "count": 14},
        {"name": "over", "aloud": tmp_path / "voices.jsonl", "sounds": tmp_path / "sounds.jsonl", "count": 3},
    ]}  # fmt: skip
    prepare(PrepareConfig.model_validate(json.loads(json.dumps(config, default=str))))
    clips = load_clips([out / "scenes.jsonl", out / "over.jsonl"])
    assert {c.task for c in clips} == {"QA", "co_reasoning"}
    longest = max((c for c in clips if c.task == "QA"), key=lambda c: c.path.count("\n"))
    assert len(read_clip(longest.path)) > 2 * 16000
    over = next(c for c in clips if c.task == "co_reasoning")
    assert (over.row["text"], over.row["said"]) == (over.row["background"][0], "turn the light on")


def test_a_schema_is_asked_under_many_names_and_its_answer_fits_the_speech():
    from salmonn_core.training.slots import slot_example

    row = {"slots": [["house_place", "kitchen"], ["device_type", "lights"]]}
    clip = Clip("a.wav", "speech", "turn off the lights in the kitchen", "", row)
    drawn = [slot_example(clip, random.Random(seed)) for seed in range(60)]
    records = [json.loads(answer) for _, answer in drawn]
    assert {"house place", "room"} <= {name for record in records for name in record}
    for (instruction, _), record in zip(drawn, records, strict=True):
        assert {v for v in record.values() if v} == {"kitchen", "lights"}
        assert all(name in instruction for name in record)
    assert any(None in record.values() for record in records)
    assert any("(" in instruction.split("Fields:")[1] for instruction, _ in drawn)  # with values to choose from


def test_an_unseen_schema_has_names_that_training_never_asks_for():
    from salmonn_core.training.slots import FEW_VALUES, OTHER_NAMES, SLOT_NAMES, UNSEEN_NAMES, unseen_schema

    asked = {name.replace("_", " ") for name in (*SLOT_NAMES, *OTHER_NAMES, *FEW_VALUES)}
    asked |= {other for names in OTHER_NAMES.values() for other in names}
    assert set(UNSEEN_NAMES) == set(FEW_VALUES)
    assert not asked & set(UNSEEN_NAMES.values())
    clip = Clip("a.wav", "speech", "a taxi please", "", {"slots": [["transport_type", "Taxi"], ["city", "Rome"]]})
    fields, record = unseen_schema(clip)
    assert record == {"ride": "taxi", "daytime": None}
    assert "taxi" in fields["ride"]
    assert unseen_schema(Clip("a.wav", "speech", "rome", "", {"slots": [["city", "Rome"]]})) == ({}, {})


def test_a_manifest_may_bring_the_schema_that_its_records_are_asked_by():
    from salmonn_core.training.measure import MEASURES
    from salmonn_core.training.slots import unseen_schema

    schema = {"size": ["small", "large"], "milk": ["oat milk", "cream"]}
    clip = Clip("a.wav", "speech", "", "", {"slots": [["size", "large"]], "schema": schema})
    assert unseen_schema(clip) == (
        {"size": ("small", "large"), "milk": ("oat milk", "cream")},
        {"size": "large", "milk": None},
    )
    question = MEASURES["unseen"].question(clip)
    assert question.options(1.0)["pattern"] == r'\{"size": <Said:size>, "milk": <Said:milk>\}'
    assert question.options(1.0)["spot"] == {"size": ("small", "large"), "milk": ("oat milk", "cream")}
    marks = [list(MEASURES["unseen"].marks(clip, f'{{"size": "{size}", "milk": null}}')) for size in ("large", "small")]
    assert [mark.part for (mark,) in marks] == [True, False]


def test_a_cut_clip_keeps_both_encoders_in_step():
    pair = (torch.arange(240.0)[:, None], torch.arange(30.0)[:, None])
    speech, audio = cut(pair, (0.25, 0.75))
    assert len(speech) == 120
    assert abs(len(audio) - 15) <= 1
    assert float(audio[0, 0]) / 30 == pytest.approx(float(speech[0, 0]) / 240, abs=0.02)
    assert cut(pair, WHOLE) is pair
    assert cut(pair, (0.5, 0.55)) is pair  # too short to be a sound


def test_spans_and_channels_are_hidden_in_a_copy():
    import torch

    from salmonn_core.training.corpus import LONGEST_SPAN, masked

    torch.manual_seed(0)
    states = torch.ones(400, 200)
    seen = masked(states, 0.1)
    assert states.all()
    channels, frames = (seen == 0).all(dim=0), (seen == 0).all(dim=1)
    assert 10 < int(channels.sum()) < 30
    assert 0.05 < float(frames.float().mean()) < 0.15
    assert (seen[~frames][:, ~channels] == 1).all()
    spans = "".join("x" if hidden else " " for hidden in frames).split()
    assert min(len(span) for span in spans) <= LONGEST_SPAN


def test_only_examples_of_like_lengths_go_through_the_llm_together():
    from salmonn_core.training.trainee import ALIKE, alike

    lengths = [90, 20, 25, 200, 26, 27, 100]
    groups = alike(lengths, ALIKE["cpu"])
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert [[lengths[index] for index in group] for group in groups] == [[20, 25, 26], [27], [90, 100], [200]]
    assert len(alike(lengths, ALIKE["cuda"])) == 2  # a GPU pads rather


def test_a_caption_that_does_not_name_its_sound_is_told_the_name():
    from salmonn_core.training.tasks import naming_caption

    def caption(text, labels):
        return naming_caption(Clip("a.wav", "event", labels[0], text, {"labels": labels}))

    assert caption("A bird chirps.", ["bird song"]) == "A bird chirps (bird song)."
    assert caption("A dog is barking.", ["dog bark"]) == "A dog is barking."


def test_only_words_that_were_spoken_are_spelled_beside_the_llm():
    from types import SimpleNamespace

    from salmonn_core.training.tasks import Example
    from salmonn_core.training.trainee import Trainee

    pieces = SimpleNamespace(ids=lambda text: [7] + [1] * len(text.split()))  # even nothing has its space
    trainee = SimpleNamespace(pieces=pieces, spelled={7: (7,), 1: (2, 3)}, llm=object())

    def spelled(kind, text):
        return Trainee.spelling(trainee, Example(Clip("a.wav", kind, text, "", {}), "asr", "", ""))

    assert spelled("speech", "go on") == [7, 2, 3, 2, 3]  # a word that is no class comes in parts
    assert spelled("speech", "") == []
    assert spelled("event", "dog bark") == []
    trainee.spelled = {7: (7,)}
    assert spelled("speech", "go on") == []  # a clip with a word that cannot be spelled teaches no words


def test_an_exported_bridge_can_be_the_mean_of_two_checkpoints(tmp_path):
    from safetensors.torch import save_file

    from salmonn_core.training.export import _blended

    later = {"bridge.w": torch.tensor([2.0]), "head.scale": torch.tensor([4.0]), "lora.a": torch.tensor([1.0])}
    earlier = tmp_path / "earlier.safetensors"
    save_file({k: torch.zeros(1) for k in later}, earlier, metadata={"tokens": "[5, 7]"})
    blended = _blended(later, [5, 7], earlier)
    assert {k: float(v) for k, v in blended.items()} == {"bridge.w": 1.0, "head.scale": 2.0}
    with pytest.raises(UserError, match="reads other tokens"):
        _blended(later, [7, 5], earlier)


def test_a_gpu_is_given_many_clips_of_one_length_and_they_sound_as_each_alone(tmp_path, monkeypatch):
    from salmonn_core.training import features
    from salmonn_core.whisper import log_mel

    rng = np.random.default_rng(0)
    seconds = {str(tmp_path / f"{n}.wav"): length for n, length in enumerate((1.3, 2.7, 1.4, 2.8, 1.35))}
    for path, length in seconds.items():
        soundfile.write(path, rng.normal(0, 0.1, int(16000 * length)).astype(np.float32), 16000)
    one_by_one = {paths[0]: clips[0] for paths, clips in features.waves(seconds)}
    monkeypatch.setattr(features, "accelerator", lambda: "cuda")
    together = list(features.waves(seconds))
    assert sorted(len(paths) for paths, _ in together) == [2, 3]
    assert sorted(path for paths, _ in together for path in paths) == sorted(seconds)
    for paths, clips in together:
        mels = log_mel(clips, 80, pad_to_30s=False)
        for path, clip, mel in zip(paths, clips, mels, strict=True):
            assert np.array_equal(clip, one_by_one[path])
            assert np.allclose(mel, log_mel(clip, 80, pad_to_30s=False)[0], atol=1e-4)
