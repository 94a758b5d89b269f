"""Numbers of the reference implementation (../shared/golden), every array, through the public loader."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from salmonn_core import UserError
from salmonn_core.beats import Beats
from salmonn_core.checkpoint import OfficialFiles, read_beats
from salmonn_core.config import BeatsConfig, QFormerConfig
from salmonn_core.model import Salmonn
from tests.conftest import ROOT, SHARED, needs_shared

GOLDEN = SHARED / "golden"
pytestmark = needs_shared
FILES = OfficialFiles(GOLDEN / "salmonn.pth", GOLDEN / "beats.pt", GOLDEN / "whisper", GOLDEN / "llama")


@pytest.fixture(scope="module")
def golden():
    from salmonn_core.parity import open_golden

    return open_golden(GOLDEN)


@pytest.fixture(scope="module")
def rows(golden):
    from salmonn_core.parity import compare

    return {row.name: row for row in compare(golden)}


@pytest.mark.parametrize(
    "part", ["fbank", "beats", "whisper", "audio_tokens", "logits", "greedy", "beam4", "batch", "dbg"]
)
def test_every_array_of_a_part_agrees_with_the_reference(part, rows):
    mine = [row for name, row in rows.items() if name.startswith(part)]
    assert mine
    assert [row for row in mine if not row.passed] == []


def test_no_array_of_the_set_is_left_out(golden, rows):
    assert set(golden.arrays) == golden.used


def test_probes_that_ordinary_clips_cannot_see_agree(rows):
    probes = {"tiny_in_2e-3", "tiny_query_2e-3", "beats_longer", "short04_audio_tokens"}
    assert all(rows[name].passed for name in probes)


def test_a_wrong_number_is_a_miss_and_a_non_zero_exit(tmp_path):
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN, folder)
    arrays = dict(np.load(folder / "outputs.npz"))
    arrays["audio_tokens_noise"] = arrays["audio_tokens_noise"] + 1e-3
    np.savez(folder / "outputs.npz", **arrays)
    command = [sys.executable, "-m", "salmonn_core.parity", str(folder), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    missed = [row["name"] for row in map(json.loads, result.stdout.splitlines()) if not row["passed"]]
    assert missed == ["audio_tokens_noise"]
    assert result.returncode == 1


def test_a_folder_of_another_layout_is_one_line(tmp_path):
    command = [sys.executable, "-m", "salmonn_core.parity", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.returncode == 1


def saved(tmp_path, change):
    """The golden checkpoint with one change."""
    content = torch.load(GOLDEN / "salmonn.pth", "cpu", weights_only=True)
    change(content["model"])
    torch.save(content, tmp_path / "salmonn.pth")
    return OfficialFiles(tmp_path / "salmonn.pth", FILES.beats, FILES.whisper, FILES.llm)


def load(files):
    return Salmonn.from_official(files, precision="fp32", qformer_heads=4)


def test_a_missing_key_is_named(tmp_path):
    files = saved(tmp_path, lambda model: model.pop("ln_speech.weight"))
    with pytest.raises(UserError, match=r"1 missing: ln_speech\.weight"):
        load(files)


def test_an_unexpected_key_is_named(tmp_path):
    files = saved(tmp_path, lambda model: model.update(surprise=torch.zeros(1)))
    with pytest.raises(UserError, match="1 unexpected: surprise"):
        load(files)


def test_a_wrong_shape_is_named(tmp_path):
    files = saved(tmp_path, lambda model: model.update({"speech_llama_proj.weight": torch.zeros(80, 95)}))
    with pytest.raises(UserError, match=r"projection\.weight is \(80, 95\), should be \(80, 96\)"):
        load(files)


def test_a_lora_key_that_is_gone_is_named(tmp_path):
    name = "llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.default.weight"
    files = saved(tmp_path, lambda model: model.pop(name))
    with pytest.raises(UserError, match=r"1 missing: .*layers\.1\.self_attn\.v_proj\.lora_B"):
        load(files)


def test_the_13b_checkpoint_on_a_7b_model_is_named_as_such():
    from salmonn_core.loading import check_widths

    with pytest.raises(
        UserError, match="projects to 5120, the LLM is 4096 wide: it is the 13B checkpoint on a 7B model"
    ):
        check_widths({"bridge.projection.bias": torch.zeros(5120)}, 1280, 4096, "salmonn_v1.pth")


def test_another_whisper_is_named():
    from salmonn_core.loading import check_widths

    with pytest.raises(UserError, match="a Whisper 1280 wide, the one given is 512 wide"):
        check_widths({"bridge.ln_speech.bias": torch.zeros(1280)}, 512, 4096, "salmonn_v1.pth")


class Harmful:
    """What a poisoned checkpoint would hold."""

    def __reduce__(self):
        return (open, ("/tmp/salmonn-was-here", "w"))


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path):
    torch.save({"model": {"x": Harmful()}}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="no checkpoint of plain tensors, so it is not opened"):
        load(OfficialFiles(tmp_path / "bad.pth", FILES.beats, FILES.whisper, FILES.llm))


def test_a_converted_folder_answers_like_the_checkpoint(tmp_path, golden):
    from salmonn_core.parity import _greedy, _prompt
    from salmonn_core.weights.official import convert

    convert(FILES, tmp_path / "model", report=lambda _: None, qformer_heads=4)
    assert (tmp_path / "model/salmonn.safetensors").stat().st_mode & 0o777 == 0o644  # others may load it, too
    model = Salmonn.from_pretrained(tmp_path / "model", precision="fp32")
    audio = model.encode(golden.wave("duck").astype(np.float32)).tokens
    ids, _ = _greedy(model.llm, _prompt(golden, audio), 1.0, 12)
    assert ids == golden.arrays["greedy_x1_duck"].tolist()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training_stage"] == "published"
    assert config["prompt"]["template"] == "USER: {}\nASSISTANT:"
    assert len(config["llm_fingerprint"]) == 64


def test_another_base_model_than_the_converted_one_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    from salmonn_core.weights.official import convert

    llm = tmp_path / "llama"
    shutil.copytree(GOLDEN / "llama", llm)
    convert(OfficialFiles(FILES.checkpoint, FILES.beats, FILES.whisper, llm), tmp_path / "model", lambda _: None, 4)
    weights = load_file(llm / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, llm / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"the LLM in .* is not the one that this model was converted with"):
        Salmonn.from_pretrained(tmp_path / "model", precision="fp32")


def test_a_pickled_base_is_rewritten_and_answers_alike(tmp_path, golden):
    from safetensors.torch import load_file

    from salmonn_core.parity import _greedy, _prompt
    from salmonn_core.weights.official import convert

    llm = tmp_path / "vicuna"
    llm.mkdir()
    shutil.copy(GOLDEN / "llama/config.json", llm)
    weights = load_file(GOLDEN / "llama/model.safetensors")
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        torch.save({name: weights[name] for name in part}, llm / f"pytorch_model-{number:05d}-of-00002.bin")
    convert(OfficialFiles(FILES.checkpoint, FILES.beats, FILES.whisper, llm), tmp_path / "model", lambda _: None, 4)
    model = Salmonn.from_pretrained(tmp_path / "model", precision="fp32")
    audio = model.encode(golden.wave("chirp").astype(np.float32)).tokens
    ids, _ = _greedy(model.llm, _prompt(golden, audio), 1.0, 12)
    assert ids == golden.arrays["greedy_x1_chirp"].tolist()
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_a_fine_tuned_beats_keeps_its_head_and_gives_probabilities(tmp_path):
    content = torch.load(GOLDEN / "beats.pt", "cpu", weights_only=True)
    content["cfg"] |= {"finetuned_model": True, "predictor_class": 7}
    content["model"] |= {"predictor.weight": torch.randn(7, 96), "predictor.bias": torch.randn(7)}
    torch.save(content, tmp_path / "beats.pt")
    config, weights = read_beats(tmp_path / "beats.pt")
    beats = Beats(config)
    beats.load_state_dict(weights)
    wave = torch.randn(2, 16_000)
    probabilities = beats.class_probabilities(wave, torch.zeros(2, 16_000, dtype=torch.bool))
    assert probabilities.shape == (2, 7)
    torch.testing.assert_close(probabilities, torch.sigmoid(beats.predictor(beats(wave)).mean(dim=1)))


def test_a_beats_variant_that_is_not_implemented_is_named(tmp_path):
    content = torch.load(GOLDEN / "beats.pt", "cpu", weights_only=True)
    content["cfg"]["layer_norm_first"] = True
    torch.save(content, tmp_path / "beats.pt")
    with pytest.raises(UserError, match="layer_norm_first=True is not supported"):
        read_beats(tmp_path / "beats.pt")


def test_the_official_windows_give_88_audio_tokens():
    assert QFormerConfig().window_frames == 17
    assert QFormerConfig().audio_tokens(1500) == 88
    assert QFormerConfig(window_s=0.25).window_frames == 12  # half to even
    assert QFormerConfig(queries=3, window_s=0.4, stride_s=0.2).audio_tokens(100) == 27
    assert BeatsConfig().finetuned_model is False


MEASURE = """
import resource, sys
import torch, transformers, peft
from pathlib import Path
from transformers import LlamaForCausalLM, WhisperForConditionalGeneration
from salmonn_core import Salmonn
import salmonn_core.loading, salmonn_core.beats, salmonn_core.int8, salmonn_core.whisper
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = Salmonn.from_pretrained(Path(sys.argv[1]), precision="bf16")
print(peak() - before)
"""


def test_loading_holds_no_part_twice(tmp_path):
    """Peak host memory stays under 1.2 x the largest part: here an LLM of 320 MB in bfloat16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from salmonn_core.weights.official import convert

    config = LlamaConfig.from_pretrained(GOLDEN / "llama", vocab_size=1_000_000)
    LlamaForCausalLM(config).bfloat16().save_pretrained(tmp_path / "llama")
    size = (tmp_path / "llama/model.safetensors").stat().st_size
    files = OfficialFiles(FILES.checkpoint, FILES.beats, FILES.whisper, tmp_path / "llama")
    convert(files, tmp_path / "model", lambda _: None, 4)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "model")], capture_output=True, text=True, cwd=ROOT
    )
    assert int(result.stdout) < 1.2 * size, result.stderr
