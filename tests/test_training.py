"""Training runs: resumed to the bit, the same on one process and two, and clear about mistakes."""

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

from salmonn_core.errors import UserError
from salmonn_core.training.checkpoints import newest
from salmonn_core.training.config import TrainConfig, bundled, load_config
from tests.conftest import ROOT
from tests.training_toys import toy_llm, toy_set


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return {"llm": toy_llm(folder / "llm"), "manifest": toy_set(folder / "set"), "folder": folder}


@pytest.fixture(scope="module")
def aligned(toys):
    return run(toys, "aligned", stage="align", steps=2)


def settings(toys, name, **more):
    return {
        "train": [str(toys["manifest"])],
        "whisper": [str(toys["folder"] / "set/whisper")],
        "llm": str(toys["llm"]),
        "out": str(toys["folder"] / name),
        "budget": 600,
        "dropout": 0.1,
        **more,
    }


def run(toys, name, **more):
    from salmonn_core.training.trainer import train

    train(TrainConfig(**settings(toys, name, **more)))
    return toys["folder"] / name


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def interrupted_after(steps, monkeypatch):
    """Make the next run die at a step, as by Ctrl-C."""
    from salmonn_core.training.trainer import Trainer

    step = Trainer.train_step

    def dying(self):
        if self.step == steps:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", dying)


@pytest.mark.parametrize("stage", ["letters", "align", "pretrain"])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(toys, aligned, monkeypatch, stage):
    more = {"stage": stage, "steps": 6, "save_every": 3, "start": str(aligned) if stage == "pretrain" else None}
    more |= {"masking": 0.1, "variety": 0.15, "average": 0.8} if stage == "letters" else {}
    whole = run(toys, f"{stage}-whole", **more)
    with monkeypatch.context() as patch:
        interrupted_after(4, patch)  # one step after the checkpoint: that step is lost and done again
        with pytest.raises(KeyboardInterrupt):
            run(toys, f"{stage}-halves", **more)
    halves = run(toys, f"{stage}-halves", **more)
    assert losses(whole) == losses(halves)
    assert len(losses(whole)) == 6
    one, other = load_file(newest(whole)), load_file(newest(halves))
    assert one.keys() == other.keys()
    assert all(one[key].equal(other[key]) for key in one)


def test_letters_are_the_mean_of_their_last_steps_and_go_on_from_the_last_one(toys):
    out = run(toys, "mean", stage="letters", steps=2, save_every=1, average=0.5)
    first, last = (load_file(out / f"step-0000000{step}/going.safetensors") for step in (1, 2))
    kept = load_file(newest(out))
    assert any(not first[key].equal(last[key]) for key in first)
    assert all(kept[key].allclose((first[key] + last[key]) / 2, atol=1e-6) for key in kept)


def test_accumulating_in_parts_changes_nothing_but_rounding(toys, aligned):
    more = {"stage": "pretrain", "steps": 2, "start": str(aligned), "dropout": 0.0, "precision": "fp32"}
    whole, parts = run(toys, "one-part", **more), run(toys, "three-parts", accumulate=3, **more)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)


def logged(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [value for row in rows for value in (row["loss"], row["ctc"])]


def on_two_processes(toys, name, *program, **more):
    """The folder of a run on two processes, by `python *program` each."""
    config = toys["folder"] / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings(toys, name, **more)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [*program, "train", "--config", str(config)]
    on_cpus = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=on_cpus, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return toys["folder"] / name


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_also_where_each_holds_a_part_of_the_weights(toys, aligned):
    more = {"stage": "pretrain", "steps": 3, "start": str(aligned), "dropout": 0.0, "precision": "fp32"}
    more |= {"dev": [str(toys["manifest"])]}  # read at the end, from whole weights
    one = run(toys, "one-process", **more)
    two = on_two_processes(toys, "two-processes", "-m", "salmonn_core.training", **more)
    state = json.loads((two / "step-00000003/state.json").read_text())
    assert state["processes"] == 2
    assert logged(two) == pytest.approx(logged(one), rel=1e-4)
    shared = on_two_processes(toys, "in-parts", "tests/sharded.py", save_every=2, **more)
    assert logged(shared) == pytest.approx(logged(two), rel=1e-5)
    whole, other = load_file(newest(two)), load_file(newest(shared))
    assert whole.keys() == other.keys()
    assert all(whole[key].allclose(other[key], atol=1e-5) for key in whole)
    shutil.rmtree(newest(shared).parent)  # goes on from step 2
    again = load_file(newest(on_two_processes(toys, "in-parts", "tests/sharded.py", save_every=2, **more)))
    assert all(again[key].equal(other[key]) for key in other)


def test_the_namer_is_fitted_once_and_puts_a_label_s_words_beside_its_sound(toys, aligned):
    """Two kinds of sounds, told apart from the first step on; a second stage keeps what the first one fitted."""
    import torch

    from salmonn_core.training.corpus import load_clips
    from salmonn_core.training.trainer import Trainer

    sounds = toys["folder"] / "set/sounds.jsonl"
    rows = [
        {"path": f"{n}.wav", "kind": "event", "labels": [("alarm", "music")[n % 2]], "caption": "x"} for n in (0, 1)
    ]
    sounds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"steps": 1, "train": [str(sounds), str(toys["manifest"])], "stage": "instruct", "start": str(aligned)}
    trainer = Trainer(TrainConfig(**settings(toys, "named", **more)))
    trainer.run()
    trainee = trainer.trainee.eval()
    assert trainee.labels == ["alarm", "music"]
    bridge = trainee.bridge
    with torch.inference_mode():
        for clip in load_clips([sounds]):
            logits = bridge.namer.logits(bridge.windows(bridge.join(*trainer.features[clip.path])))
            assert trainee.labels[int(logits.mean(dim=0).argmax())] == clip.row["labels"][0]
        spoken = bridge.windows(bridge.join(*trainer.features[load_clips([toys["manifest"]])[5].path]))
        assert bridge.namer.logits(spoken).mean() < logits.max()
    again = run(
        toys, "named-again", **more | {"stage": "activate", "start": str(toys["folder"] / "named"), "lr_bridge": 1.0}
    )
    before, after = load_file(newest(toys["folder"] / "named")), load_file(newest(again))
    assert before["bridge.namer.label.weight"].equal(after["bridge.namer.label.weight"])
    assert not before["bridge.namer.words.weight"].equal(after["bridge.namer.words.weight"])


def test_a_finished_checkpoint_learns_more_sounds_and_nothing_else_of_it_changes(toys, aligned):
    from salmonn_core.training.config import NameConfig
    from salmonn_core.training.learned import learned
    from salmonn_core.training.renaming import rename

    labels = ("siren", "whistle", "siren")
    rows = [{"path": f"{n}.wav", "kind": "event", "labels": [labels[n]], "caption": "x"} for n in range(3)]
    more_sounds = toys["folder"] / "set/more.jsonl"
    more_sounds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings(toys, "renamed.safetensors", train=[str(more_sounds)], start=str(aligned), stage="name")
    known = {key: value for key, value in given.items() if key in NameConfig.model_fields}
    out = rename(NameConfig(**known))
    before, after = load_file(newest(aligned)), load_file(out)
    assert learned(out).labels == ["siren", "whistle"]
    assert learned(out).tokens == learned(aligned).tokens
    assert after["bridge.namer.label.weight"].shape[0] == 2
    assert all(after[key].equal(value) for key, value in before.items())


def test_who_speaks_is_told_when_it_is_asked_and_adds_nothing_to_the_tokens(toys, aligned):
    from salmonn_core.namer import named
    from salmonn_core.training.corpus import load_clips
    from salmonn_core.training.trainer import Trainer

    voices = toys["folder"] / "set/voices.jsonl"
    rows = [{"path": f"{n}.wav", "text": "hello", "speaker": f"s{n}", "voice": ("man", "woman")[n % 2]} for n in (0, 1)]
    rows += [
        {"path": f"{n}.wav", "kind": "event", "labels": [("siren", "wind")[n - 2]], "caption": "x"} for n in (2, 3)
    ]
    voices.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"steps": 1, "train": [str(voices)], "stage": "instruct", "start": str(aligned)}
    trainer = Trainer(TrainConfig(**settings(toys, "voiced", **more)))
    trainee = trainer.trainee.eval()
    assert trainee.labels == ["man's voice", "siren", "wind", "woman's voice"]
    bridge = trainee.bridge
    assert [bool(column.any()) for column in bridge.namer.words.weight.T] == [False, True, True, False]
    for clip in load_clips([voices])[:2]:
        logits = bridge.namer.logits(bridge.windows(bridge.join(*trainer.features[clip.path])))
        asked = named(logits, trainee.labels, "Is it a man or a woman?")
        assert (asked.voice, asked.likely) == (clip.row["voice"], ())
        assert not set(named(logits, trainee.labels).likely) & {"man's voice", "woman's voice"}


def test_a_voice_that_is_neither_is_a_clear_error(toys):
    wrong = toys["folder"] / "set/wrong-voice.jsonl"
    wrong.write_text(json.dumps({"path": "0.wav", "text": "hello", "voice": "female"}) + "\n")
    with pytest.raises(UserError, match=r"wrong-voice.jsonl, line 1: unknown voice 'female'; use man or woman"):
        run(toys, "wrong-voice", train=[str(wrong)], stage="align", steps=1)


def test_commands_in_text_alone_are_asked_beside_the_clips(toys, aligned):
    from salmonn_core.training.trainer import Trainer

    folder = toys["folder"] / "texts"
    folder.mkdir()
    said = {"text": "play jazz in the kitchen", "source": "s", "license": "CC0", "intent": "play"}
    (folder / "snips.jsonl").write_text(json.dumps(said | {"slots": [["genre", "jazz"]]}) + "\n")
    for name in ("slurp_devel.jsonl", "nlu_eval_fold1.jsonl"):
        (folder / name).write_text("")
    with gzip.open(folder / "opentriviaqa.jsonl.gz", "wt"):
        pass
    more = {"stage": "instruct", "steps": 2, "start": str(aligned), "texts": str(folder), "text_examples": 3}
    trainer = Trainer(TrainConfig(**settings(toys, "in-text", **more)))
    asked = [example for example in trainer.sampler.batch() if not example.clip.path]
    assert len(asked) == 1  # there is but one
    assert 'The words spoken are "play jazz in the kitchen"' in asked[0].instruction
    assert "jazz" in json.loads(asked[0].answer).values()
    trainer.run()
    assert len(losses(toys["folder"] / "in-text")) == 2


@pytest.fixture(scope="module")
def shipped(toys, aligned):
    """A model folder, as `export` makes it, and what its BEATs and letters were made of."""
    import torch

    from salmonn_core.letters import Letters
    from salmonn_core.training.classify import SMALL, Tagger, save
    from salmonn_core.training.config import ExportConfig
    from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_LETTERS
    from salmonn_core.training.export import export
    from salmonn_core.weights.safe import write_safetensors

    folder = toys["folder"]
    save(Tagger(SMALL, 2), ["a", "b"], folder / "beats.safetensors")
    torch.manual_seed(1)
    letters = Letters(TINY_LETTERS, SPEECH_WIDTH).state_dict()
    write_safetensors({f"letters.{k}": v for k, v in letters.items()}, folder / "letters.safetensors")
    more = {"stage": "pretrain", "steps": 2, "start": str(aligned), "lr_lora": 0.1}
    done = {"checkpoint": str(run(toys, "to-ship", **more)), "beats": str(folder / "beats.safetensors")}
    done |= {"letters": str(folder / "letters.safetensors"), "stage": "pretrain", "out": str(folder / "shipped")}
    return export(ExportConfig(**done)).parent


def test_a_model_that_was_exported_learns_more_and_what_was_not_trained_stays(toys, shipped):
    from salmonn_core.loading import read_weights
    from salmonn_core.training.config import ExportConfig
    from salmonn_core.training.export import export

    more = {"stage": "instruct", "start": str(shipped), "lr_bridge": 0.0, "lr_lora": 0.1, "steps": 2, "ctc_weight": 0.0}
    out = run(toys, "learned-more", beats_model=str(shipped), beats=[str(toys["folder"] / "set/beats")], **more)
    made = {"checkpoint": str(out), "base": str(shipped), "stage": "instruct", "out": str(toys["folder"] / "again")}
    before, after = read_weights(shipped), read_weights(export(ExportConfig(**made)).parent)
    assert before.keys() == after.keys()
    assert {key.split(".")[0] for key in before} == {"beats", "bridge", "letters", "lora", "reader"}
    moved = {key for key in before if not before[key].float().allclose(after[key].float(), atol=1e-6)}
    assert moved == {key for key in before if key.startswith("lora.")}
    made |= {"further": 1.5, "out": str(toys["folder"] / "further")}
    beyond = read_weights(export(ExportConfig(**made)).parent)
    for key in moved:
        expected = before[key].float() + 1.5 * (after[key].float() - before[key].float())
        assert beyond[key].float().allclose(expected, atol=0.02 * expected.abs().max().item())


def test_only_the_tasks_to_learn_are_learned(toys, shipped):
    """Answers to the others stay nearly where they were, though the same LoRA learns."""
    from salmonn_core.training.trainer import Trainer

    commands = toys["folder"] / "set/commands.jsonl"
    rows = [{"path": f"{n}.wav", "text": "play jazz", "slots": [["genre", "jazz"]]} for n in range(8)]
    commands.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"stage": "instruct", "start": str(shipped), "lr_bridge": 0.0, "lr_lora": 0.1, "ctc_weight": 0.0}
    more |= {"steps": 40, "dropout": 0.0, "precision": "fp32", "warmup": 0, "train": [str(commands)]}
    gains = []
    for name, learn in (("all", []), ("slots", ["slots"])):
        trainer = Trainer(TrainConfig(**settings(toys, f"learn-{name}", learn=learn, **more)))
        drawn = [example for _ in range(6) for example in trainer.sampler.batch()]
        trainer.sampler.seek(0, 0)
        asked = [[e for e in drawn if e.task == task][:6] for task in ("slots", "asr")]
        before = [sureness(trainer, examples) for examples in asked]
        trainer.run()
        gains.append([sureness(trainer, examples) - old for examples, old in zip(asked, before, strict=True)])
    (_, all_others), (learned, others) = gains
    assert learned > 0.1
    assert abs(others) < 0.5 * min(learned, all_others)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_held_is_what_the_start_says_whatever_was_learned_since(toys, shipped, precision):
    import torch

    from salmonn_core.training.trainer import Trainer

    more = {"stage": "instruct", "start": str(shipped), "lr_bridge": 0.0, "steps": 1, "precision": precision}
    trainer = Trainer(TrainConfig(**settings(toys, f"held-{precision}", learn=["slots"], **more)))
    trainee, embeds, wanted = trainer.trainee.eval(), torch.randn(2, 5, 32), torch.ones(2, 4, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16, enabled=trainee.bf16):
        start = trainee._logits(embeds, wanted).detach()
        for name, parameter in trainee.llm.named_parameters():
            if name in trainee.before:
                parameter.data += torch.randn_like(parameter)
    with torch.autocast("cpu", torch.bfloat16, enabled=trainee.bf16):
        now = trainee._logits(embeds, wanted)
        with torch.no_grad(), trainee._as_before():
            told = trainee._logits(embeds, wanted)
        again = trainee._logits(embeds, wanted)
    assert told.equal(start)
    assert again.equal(now)
    assert not told.allclose(now, atol=0.1)


def sureness(trainer, examples):
    """Mean log-probability of the answers' tokens."""
    import torch

    trainee = trainer.trainee.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=trainee.bf16):
        heard = [clip.tokens for clip in trainee.hear([trainer._heard(example) for example in examples])]
        found = []
        for embeds, labels in trainee._rows(examples, heard):
            said = trainee.llm(inputs_embeds=embeds[None]).logits[0, :-1].float().log_softmax(-1)
            answer = (labels[1:] != -100).nonzero().flatten()
            found.append(said[answer, labels[1:][answer]])
    return torch.cat(found).mean().item()


def test_a_start_that_is_not_there_is_told_before_anything_is_computed(toys):
    with pytest.raises(UserError, match="no checkpoint in salmon-tiny and no model of that name"):
        run(toys, "x", stage="instruct", steps=1, start="salmon-tiny", whisper=["none"])


def test_a_run_goes_on_with_the_parts_that_it_trained(toys, shipped):
    more = {"stage": "instruct", "start": str(shipped), "ctc_weight": 0.0}
    run(toys, "parts", lr_bridge=0.0, steps=1, **more)
    with pytest.raises(UserError, match="trained other parts of the model"):
        run(toys, "parts", lr_bridge=0.1, steps=2, **more)


def test_a_task_goes_by_any_of_its_names(toys):
    learn = {"learn": ["slot_filling"], "lr_bridge": 0.0, "start": "salmonn-tiny"}
    assert TrainConfig(**settings(toys, "x", stage="instruct", steps=1, **learn)).learn == ["slots"]


def test_a_task_that_is_not_there_cannot_be_learned(toys):
    with pytest.raises(ValueError, match=r"unknown task 'slot' \(did you mean 'slots'\?\)"):
        TrainConfig(**settings(toys, "x", stage="instruct", steps=1, start="salmonn-tiny", learn=["slot"]))


def test_a_published_model_is_no_start(toys, tmp_path):
    from salmonn_core.loading import save
    from salmonn_core.training.export import TINY

    save(tmp_path / "official", TINY, {})
    with pytest.raises(UserError, match="has no reader of its audio tokens"):
        run(toys, "from-official", stage="instruct", steps=1, start=str(tmp_path / "official"))


def test_words_that_were_misheard_are_quoted_as_they_were_heard():
    import random

    from salmonn_core.training.corpus import Clip
    from salmonn_core.training.mishearing import Mishearing

    common = [Clip("", "text", "play some jazz music", "", {"slots": [["genre", "jazz"]]})] * 20
    rare = Clip("", "text", "play hiromitsu agatsuma music", "", {"slots": [["artist", "Hiromitsu Agatsuma"]]})
    hear = Mishearing([*common, rare], 1.0)
    assert hear(common[0], random.Random(1)) is common[0]
    heard = [hear(rare, random.Random(seed)) for seed in range(50)]
    for clip in heard:
        ((name, value),) = clip.row["slots"]
        assert clip.text == f"play {value} music"
        assert (name, value != "hiromitsu agatsuma", value[0] == " ") == ("artist", True, False)
    assert len({clip.text for clip in heard}) > 40
    assert rare.row["slots"] == [["artist", "Hiromitsu Agatsuma"]]


def test_questions_about_a_sound_often_say_what_the_namer_hears_and_those_about_words_never():
    import random

    from salmonn_core.namer import Names
    from salmonn_core.training.corpus import Clip
    from salmonn_core.training.tasks import draw

    sound = Clip("a.wav", "event", "rain", "Rain is falling.", {"labels": ["rain"]})
    speech = Clip("b.wav", "speech", "hello there", "", {})
    rng = random.Random(0)

    def names(path, question):
        return Names(("rain", "wind")) if path == "a.wav" else Names()

    asked = [draw(sound, "instruct", {}, rng, names).instruction for _ in range(60)]
    told = [one for one in asked if one.startswith('The sounds may be "rain", "wind". ')]
    assert 20 < len(told) < 60
    assert not any("may be" in draw(speech, "instruct", {}, rng, names).instruction for _ in range(60))


def test_scenes_are_asked_in_text_with_what_a_namer_would_hear():
    import random

    from salmonn_core.training.corpus import Clip
    from salmonn_core.training.tasks import text_example

    rng, labels = random.Random(0), [f"sound {letter}" for letter in "abcdefgh"]
    command = Clip("", "text", "turn the lights off", "", {"slots": [["device", "lights"]]})
    examples = [text_example(command, labels, rng) for _ in range(200)]
    scenes = [example for example in examples if example.task == "QA"]
    assert 60 < len(scenes) < 100
    for scene in scenes:
        told, _, question = scene.instruction.rpartition(". ")
        if question.endswith("word?"):
            assert (told, scene.answer) in [('The words spoken are "turn the lights off"', w) for w in ("turn", "off")]
        elif question.startswith("How many"):
            in_order = told.partition("In order: ")[2].count(",") + 1
            assert scene.answer == ("zero", "one", "two", "three")[in_order]
        elif scene.answer in ("before", "after"):
            asked = "speech" if "words" in question else question[7 : 7 + len("sound a")]
            first = told.partition("In order: ")[2].startswith(f'"{asked}"')
            assert scene.answer == ("before" if first else "after")
        else:
            assert f'"{scene.answer}"' in told
    assert all(text_example(command, [], rng).task == "slots" for _ in range(20))


def test_what_a_clip_is_labelled_with():
    from salmonn_core.training.corpus import Clip
    from salmonn_core.training.naming import labels_of

    music = {"labels": ["music", "piano"], "instruments": ["piano"], "tempo": "fast", "mode": "minor"}
    assert labels_of(Clip("a.wav", "music", "", "", music)) == ["music", "piano", "fast tempo", "minor key"]
    assert labels_of(Clip("a.wav", "speech", "hello", "", {"labels": ["speech"]})) == []
    assert labels_of(Clip("a.wav", "event", "", "", {"labels": ["rain"], "task": "QA"}, "QA")) == []
    over = {"background": ["dog bark", "dog bark"], "speaker": "kokoro:bm_lewis", "gender": "M"}
    assert labels_of(Clip("a.wav", "speech", "dog bark", "", over, "co_reasoning")) == ["dog bark"]


def test_a_run_leaves_curves_and_no_half_checkpoint(aligned):
    assert (aligned / "curves.png").stat().st_size > 1000
    assert [path.name for path in aligned.glob("step-*")] == ["step-00000002"]
    assert not [path for path in aligned.rglob("*") if path.suffix in (".pt", ".pkl", ".bin")]


def test_the_losses_are_in_tensorboard(aligned):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(aligned / "tensorboard"))
    events.Reload()
    assert [round(e.value, 3) for e in events.Scalars("loss")] == [round(x, 3) for x in losses(aligned)]


def test_another_stage_does_not_go_on_from_this_one(toys, aligned):
    with pytest.raises(UserError, match="is of stage align, not pretrain"):
        run(toys, "aligned", stage="pretrain", steps=3, start=str(aligned))


def test_activation_tuning_runs_on_answers(toys, aligned):
    answers = toys["folder"] / "answers.json"
    answers.write_text(json.dumps({"QA:what time is it": "It is six.", "story:play some music": "A band began."}))
    more = {"stage": "activate", "lora_scale": 0.5, "answers": str(answers), "start": str(aligned)}
    assert len(losses(run(toys, "activated", steps=2, **more))) == 2


def test_every_bundled_config_is_valid(monkeypatch):
    from salmonn_core.training import config as c

    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("WORK", "/work")
    models = {"prepare": c.PrepareConfig, "evaluate": c.EvaluateConfig, "export": c.ExportConfig, "beats": c.TagConfig}
    models |= {"name": c.NameConfig, "finetuned": c.ExportConfig}
    names = set(bundled())
    assert names >= {"align", "pretrain", "instruct", "activate", "prepare"}
    for name in names:
        load_config(models.get(name, TrainConfig), name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stage: align\nstpes: 3\n", "line 2, stpes: no such key (did you mean 'steps'?)"),
        ("stage: align\nout: o\ntrain: [a]\nwhisper: [w]\nsteps: none\n", "line 5, steps: input should be a valid"),
        ("stage: align\nout: o\ntrain: [a]\nwhisper: [$NOT_SET/w]\nsteps: 3\n", "line 4, whisper.0: the environment"),
        ("stage: pretrain\nout: o\ntrain: [a]\nwhisper: [w]\nsteps: 3\n", "needs start"),
    ],
)
def test_a_mistake_in_a_config_is_told_with_its_line(tmp_path, text, complaint):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load_config(TrainConfig, str(file))
    assert complaint in str(raised.value)
    assert str(file) in str(raised.value)
