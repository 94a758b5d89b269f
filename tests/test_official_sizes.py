"""Checkpoints of other sizes than the golden set's, against the reference's own steps written out."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM, WhisperModel

from assistant.core import load_core
from assistant.profile import load as load_profile
from assistant.records import GenerationSettings, Prompt
from salmonn_core import UserError
from salmonn_core.checkpoint import read_pickle
from salmonn_core.model import Salmonn
from salmonn_core.weights.official import convert
from salmonn_core.whisper import log_mel
from tests import official
from tests.conftest import ROOT, tone

WINDOWS = {
    "overlapping": {"queries": 3, "window_s": 0.4, "stride_s": 0.16},
    "with gaps": {"queries": 2, "window_s": 0.1, "stride_s": 0.7},
    "not dividing 30 s": {"queries": 1, "layers": 3, "window_s": 0.25, "stride_s": 0.25},
}


def load(files):
    return Salmonn.from_official(files, precision="fp32", qformer_heads=official.HEADS)


def audio_tokens(model, folder, wave):
    """As the reference does it: the whole Whisper on 30 s, norms, zeros, F.unfold, Q-Former, projection."""
    whisper = WhisperModel.from_pretrained(folder / "whisper").eval().encoder
    speech = whisper(log_mel(wave, 128, pad_to_30s=True)).last_hidden_state
    bridge, config = model.bridge, model.config.qformer
    speech, audio = bridge.ln_speech(speech), bridge.ln_audio(model.beats(torch.from_numpy(wave)[None]))
    joined = torch.cat((speech, F.pad(audio, (0, 0, 0, 1500 - audio.shape[1]))), dim=-1)
    kernel, stride = round(1500 * config.window_s / 30.0), round(1500 * config.stride_s / 30.0)
    windows = F.unfold(joined.transpose(1, 2).unsqueeze(2), kernel_size=(1, kernel), stride=(1, stride))
    windows = windows.view(1, joined.shape[2], kernel, -1).permute(0, 3, 2, 1).flatten(0, 1)
    queries = bridge.query_tokens.expand(len(windows), -1, -1)
    heard = bridge.qformer(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state
    return bridge.projection(heard).flatten(0, 1)


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@torch.inference_mode()
def test_windows_of_any_size_and_stride_give_the_references_audio_tokens(windows, tmp_path):
    model = load(official.write(tmp_path, **windows))
    wave = tone(2.3)
    wanted = audio_tokens(model, tmp_path, wave)
    mine = model.encode(wave).tokens
    assert len(mine) == model.config.qformer.audio_tokens(1500) == len(wanted)
    torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_a_lora_of_another_rank_on_other_projections_is_added_at_its_scale(scale, tmp_path):
    files = official.write(tmp_path, queries=2)
    model, plain = load(files), LlamaForCausalLM.from_pretrained(files.llm).eval()
    trained = read_pickle(files.checkpoint)["model"]
    for name, module in plain.named_modules():
        if name.endswith(official.LORA["targets"]):
            down, up = (
                trained[f"llama_model.base_model.model.{name}.lora_{which}.default.weight"] for which in ("A", "B")
            )
            module.weight += official.LORA["alpha"] / official.LORA["rank"] * scale * up @ down
    prompt = torch.randn(9, 40)
    wanted = plain(inputs_embeds=prompt[None]).logits[0]
    torch.testing.assert_close(model.llm.logits(prompt, scale), wanted, atol=1e-3, rtol=0)
    assert model.config.lora.targets == official.LORA["targets"]


def golden_folder(folder):
    """A folder of vectors of other sizes and clip names, its numbers by the steps above."""
    model = load(official.write(folder, **WINDOWS["overlapping"]))
    arrays = {}
    for name, seconds in (("long", 2.3), ("brief", 1.2)):
        stereo = np.stack((tone(seconds, hertz=300.0), tone(seconds)), axis=1)
        soundfile.write(folder / f"{name}.wav", stereo, 16_000, subtype="FLOAT")
        wave = stereo[:, 0].copy()
        arrays[f"audio_tokens_{name}"] = audio_tokens(model, folder, wave)
        arrays[f"beats_classes_{name}"] = torch.sigmoid(
            model.beats.predictor(model.beats(torch.from_numpy(wave)[None])).mean(dim=1)
        )[0]
    ids = {"bos_id": 1, "prompt_before_ids": [5, 6], "prompt_after_ids": [7, 8, 9]}
    np.savez(folder / "inputs.npz", **ids)
    prompt = torch.cat(
        (
            model.llm.embed(torch.tensor([1, 5, 6])),
            arrays["audio_tokens_brief"],
            model.llm.embed(torch.tensor([7, 8, 9])),
        )
    )
    arrays["logits_x025_brief"] = model.llm.logits(prompt, 0.25)
    np.savez(folder / "outputs.npz", **{name: array.numpy() for name, array in arrays.items()})
    settings = {"bert": {"num_attention_heads": official.HEADS}}
    (folder / "config_set.json").write_text(json.dumps(settings))
    return set(arrays)


@torch.inference_mode()
def test_the_parity_program_compares_a_set_of_other_sizes_clips_and_scales(tmp_path):
    names = golden_folder(tmp_path)
    command = [sys.executable, "-m", "salmonn_core.parity", str(tmp_path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert set(rows) == names, result.stderr
    assert all(row["passed"] for row in rows.values())
    assert result.returncode == 0


def profile_of(tmp_path, monkeypatch, **files):
    """A user's profile that names releases, and nothing converted on the machine."""
    monkeypatch.setenv("ASSISTANT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "ours.yaml"
    core = {"model": "ours", "precision": "fp32", "releases": {**files, "qformer_heads": official.HEADS}}
    path.write_text(json.dumps({"extends": "default", "name": "ours", "core": core}))
    return load_profile(str(path)).core


def answer(core):
    prompt = Prompt("What do you hear?", GenerationSettings(max_new_tokens=12))
    return "".join(core.stream(core.encode(tone(1.5)), prompt))


def test_a_profile_names_the_releases_themselves_and_a_converted_folder_answers_the_same(tmp_path, monkeypatch):
    files = official.write(tmp_path, queries=2)
    settings = profile_of(tmp_path, monkeypatch, **{name: str(path) for name, path in vars(files).items()})
    said = answer(load_core(settings))
    assert said
    convert(files, tmp_path / "cache/models/ours", lambda _: None, official.HEADS)
    files.checkpoint.unlink()
    assert answer(load_core(settings)) == said


def test_a_pickled_base_is_not_loaded_and_the_command_that_mends_it_is_given(tmp_path, monkeypatch):
    files = official.write(tmp_path)
    for shard in files.llm.glob("*.safetensors"):
        shard.rename(shard.with_name("pytorch_model.bin"))
    settings = profile_of(tmp_path, monkeypatch, **{name: str(path) for name, path in vars(files).items()})
    with pytest.raises(
        UserError, match=r"nothing pickled is loaded; rewrite it once: assistant weights convert --check"
    ):
        load_core(settings)


def test_a_checkpoint_without_windows_is_refused_by_name(tmp_path):
    files = official.write(tmp_path)
    content = read_pickle(files.checkpoint)
    content["config"]["model"]["window_level_Qformer"] = False
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match="window_level_Qformer=False is not supported"):
        load(official.OfficialFiles(tmp_path / "other.pth", files.beats, files.whisper, files.llm))


def test_a_whisper_that_lost_a_shard_is_one_clear_error(tmp_path):
    files = official.write(tmp_path)
    sorted(files.whisper.glob("*.safetensors"))[0].unlink()
    with pytest.raises(UserError, match="no weights at"):
        load(files)
