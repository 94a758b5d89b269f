"""The kernels of one decoding step, in Triton's interpreter: the same logits as the model that they take apart."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn_core import fused
from salmonn_core.config import LoraConfig
from salmonn_core.fused import Fused, Tile, can_fuse
from salmonn_core.llm import PeftLlm
from salmonn_core.loading import with_lora
from tests.conftest import ROOT

SIZES = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 4}
ROOM = 192  # three programs of attention a head
triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the kernels need Triton: Linux only")


def llama(targets=("q_proj", "v_proj"), **changed):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, head_dim=16, initializer_range=0.1, **{"num_key_value_heads": 2} | changed | SIZES
    )
    model = with_lora(LlamaForCausalLM(config).eval(), LoraConfig(rank=4, alpha=8, targets=targets))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
        if "norm" in name:
            parameter.data = torch.rand_like(parameter) + 0.5
    return model.requires_grad_(False)


def buffers(model):
    shape = (1, model.config.num_key_value_heads, ROOM, 16)
    return [torch.zeros(shape) for _ in range(2)], [torch.zeros(shape) for _ in range(2)]


@triton
@torch.inference_mode()
@pytest.mark.parametrize(
    ("groups", "targets", "before"),
    [(1, ("k_proj",), 9), (2, ("q_proj", "v_proj"), 63), (4, ("q_proj", "v_proj"), 130)],
    ids=["in the first program's positions", "from the first into the second", "in the third's"],
)
def test_the_kernels_give_the_logits_of_the_model(monkeypatch, groups, targets, before):
    monkeypatch.setattr("salmonn_core.fused.TILE", Tile(32, 64, 4))  # each program takes the interpreter long
    model = llama(targets, num_key_value_heads=groups)
    reference = PeftLlm(model, 2.0)
    state, _ = reference.prefill([torch.randn(before, 96)], 0.5)
    keys, values = buffers(model)
    for layer, k, v in zip(state.cache.layers, keys, values, strict=True):
        k[:, :, :before], v[:, :, :before] = layer.keys, layer.values
    kernels = Fused(model.get_base_model())
    for at, token in enumerate((5, 9), start=before):
        state, wanted = reference.step(state, torch.tensor([token]), 0.5)
        logits = kernels.step(torch.tensor([token]), torch.tensor([at]), keys, values, 2.0 * 0.5)
        torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_model_whose_matrices_were_joined_says_what_it_said():
    model = llama()
    prompt = torch.randn(9, 96)
    before = PeftLlm(model, 2.0).logits(prompt, 1.0)
    Fused(model.get_base_model())
    assert torch.equal(before, PeftLlm(model, 2.0).logits(prompt, 1.0))


@triton
def test_only_plain_models_in_half_precision_are_run_by_the_kernels(monkeypatch):
    monkeypatch.setenv("CC", "cc")
    assert can_fuse(llama().bfloat16().get_base_model())
    assert not can_fuse(llama().get_base_model())
    assert not can_fuse(llama(("q_proj", "down_proj")).bfloat16().get_base_model())


def test_without_a_compiler_the_kernels_are_left_alone(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not can_fuse(llama().bfloat16().get_base_model())


@pytest.mark.parametrize(("capability", "early"), [((8, 9), False), ((9, 0), True), ((12, 0), True)])
def test_kernels_begin_early_only_where_the_gpu_can(monkeypatch, capability, early):
    monkeypatch.setattr("torch.version.cuda", None)
    assert fused._begins() == {"EARLY": False}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert fused._begins() == ({"EARLY": True, "launch_pdl": True} if early else {"EARLY": False})


COMPILED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from salmonn_core.kernels import attend, place, product

TYPES = {"rows": "i32", "room": "i32", "finished": "*i32", "position": "*i64"}
TYPES |= dict.fromkeys(("eps", "strength", "scale"), "fp32")
TYPES |= dict.fromkeys(("projected", "cosine", "sine", "totals", "bests", "weights"), "*fp32")
SIZES = {"WIDTH": 4096, "NORM": True, "GATED": True, "ADDED": True, "ROWS": 4, "UNROLL": 2}
SIZES |= {"HEADS": 32, "GROUPS": 32, "HALF": 64, "RANK": 16}
SIZES |= {"ROOM": 512, "SHARED": 1, "DIM": 128, "BLOCK": 64, "CHUNKS": 8, "EARLY": True}
for kernel in (product, place, attend):
    names = [each.name for each in kernel.params]
    signature = {name: "constexpr" if name in SIZES else TYPES.get(name, "*bf16") for name in names}
    source = ASTSource(kernel, signature, {name: SIZES[name] for name in names if name in SIZES})
    code = compile(source, target=GPUTarget("cuda", 90, 32), options={"launch_pdl": True}).asm["ptx"]
    print(kernel.__name__, code.count("griddepcontrol.wait"), code.count("atom.global.gpu.acq_rel"))
"""


@triton
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    program = tmp_path / "compiled.py"
    program.write_text(COMPILED)
    here = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, env=os.environ | here)
    assert ran.stdout.splitlines() == ["product 1 0", "place 1 0", "attend 1 1"], ran.stderr
