"""Processors differ: most laptops have no AVX-512, and some are no x86."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn_core import loading
from salmonn_core.config import LoraConfig
from salmonn_core.errors import UserError
from salmonn_core.int8 import Int8Llama
from salmonn_core.llm import PeftLlm
from salmonn_core.loading import float_type, lora_state, open_llm, with_lora
from tests.conftest import ROOT
from tests.test_engines import Codes

# All weights and all activations as large as they can be, and of one sign: what overflows if anything does.
LARGEST = """
import torch
from salmonn_core.int8_pack import Matrix, levels
weight, x = torch.full((64, 512), 0.05), torch.ones(20, 512)
matrix, wanted = Matrix(weight), x @ weight.T
for found in (matrix(x), matrix.step(x), matrix.step(x[:1])):
    torch.testing.assert_close(found, wanted[: len(found)], rtol=1e-5, atol=0)
print(levels())
"""
LORA = LoraConfig(rank=4, alpha=8, targets=("q_proj",))


@pytest.fixture
def folder(tmp_path):
    """A small Llama, as one that is pulled."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=256, **sizes)).bfloat16().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def processor(monkeypatch):
    def has(bfloat16, int8):
        monkeypatch.setattr(loading, "multiplies_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(loading, "multiplies_int8", lambda: int8)

    return has


def opened(folder, precision):
    lora = lora_state(with_lora(loading.load_llm(folder, torch.float32)[0], LORA))
    return open_llm(folder, LORA, lora, Codes(), "cpu", precision, "toy")


@pytest.mark.parametrize(("instructions", "levels"), [("AVX2", "127"), ("AVX512", "127"), ("", "")])
def test_no_sum_overflows_whatever_the_processor_adds_in(instructions, levels):
    there = os.environ | {"FBGEMM_ENABLE_INSTRUCTIONS": instructions}
    found = subprocess.run([sys.executable, "-c", LARGEST], capture_output=True, text=True, cwd=ROOT, env=there)
    assert not found.returncode, found.stderr
    assert found.stdout.strip() == levels or not levels


def test_a_processor_that_converts_each_bfloat16_is_given_float32(processor):
    processor(bfloat16=False, int8=True)
    assert float_type("cpu", "auto") is float_type("cpu", "int8") is torch.float32
    assert float_type("cpu", "bf16") is float_type("meta", "auto") is torch.bfloat16
    processor(bfloat16=True, int8=True)
    assert float_type("cpu", "auto") is torch.bfloat16
    assert float_type("cpu", "fp32") is torch.float32


def test_what_is_packed_as_int8_is_not_made_larger_before(processor, folder):
    processor(bfloat16=False, int8=True)
    llm = opened(folder, "auto")
    assert isinstance(llm, Int8Llama)
    assert llm._source.model.dtype is torch.bfloat16


def test_a_processor_without_int8_answers_in_float32(processor, folder):
    processor(bfloat16=False, int8=False)
    llm = opened(folder, "auto")
    assert isinstance(llm, PeftLlm)
    assert llm.dtype is torch.float32
    _, logits = llm.prefill([llm.embed(torch.arange(5))], 1.0)
    assert logits.isfinite().all()
    with pytest.raises(UserError, match="int8 on the CPU is for x86 processors; use auto"):
        opened(folder, "int8")


def test_training_takes_the_same_numbers_unless_told_otherwise(processor, monkeypatch):
    from salmonn_core.training import lettering
    from salmonn_core.training.config import TrainConfig

    def in_bf16(**precision):
        needed = {"train": ["set.jsonl"], "whisper": ["states"], "out": "run", "steps": 1}
        return lettering.build(TrainConfig(stage="letters", **needed, **precision)).bf16

    monkeypatch.setattr(lettering, "accelerator", lambda: "cpu")
    assert TrainConfig.model_fields["precision"].default == "auto"
    processor(bfloat16=False, int8=True)
    assert (in_bf16(), in_bf16(precision="bf16")) == (False, True)
    processor(bfloat16=True, int8=True)
    assert (in_bf16(), in_bf16(precision="fp32")) == (True, False)


def test_int8_of_another_model_is_refused_by_its_name(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=16, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="int8 on the CPU is for plain Llama models, this is 'gpt2'; use bf16"):
        open_llm(tmp_path, LORA, {}, Codes(), "cpu", "int8", "toy")
