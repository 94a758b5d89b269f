"""A decoding step and a prompt by kernels, in Triton's interpreter: the logits of the model that they take apart."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn_core import fused
from salmonn_core.config import LoraConfig
from salmonn_core.fused import Fused, Tile, can_fuse
from salmonn_core.llm import PeftLlm
from salmonn_core.loading import with_lora
from salmonn_core.static import StaticLlama
from tests.conftest import ROOT

SIZES = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 2, "num_attention_heads": 4}
ROOM = 192  # three programs of attention a head
triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the kernels need Triton: Linux only")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """As without a GPU: the interpreter does not have what only a GPU can do."""
    monkeypatch.setattr("torch.version.cuda", None)


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


@triton
@torch.inference_mode()
@pytest.mark.parametrize(
    ("groups", "targets", "before", "count", "padding", "scale"),
    [
        (1, ("k_proj",), 0, 9, 7, 0.5),
        (2, ("q_proj", "v_proj"), 0, 64, 0, 0.0),
        (4, ("q_proj", "v_proj"), 70, 43, ROOM - 113, 1.0),
    ],
    ids=["shorter than a program", "as long as two", "behind others and padded to the end"],
)
def test_a_prompt_leaves_the_logits_and_the_cache_of_the_model(
    monkeypatch, groups, targets, before, count, padding, scale
):
    monkeypatch.setattr("salmonn_core.fused.TILE", Tile(32, 64, 4))
    model = llama(targets, num_key_value_heads=groups)
    reference = PeftLlm(model, 2.0)
    head, prompt = torch.randn(before, 96), torch.randn(count, 96)
    prefix = reference.prefill([head], scale)[0] if before else None
    keys, values = buffers(model)
    for index in range(2 if before else 0):
        layer = prefix.cache.layers[index]
        keys[index][:, :, :before], values[index][:, :, :before] = layer.keys, layer.values
    state, wanted = reference.prefill([prompt], scale, [prefix])
    padded = torch.cat((prompt, torch.randn(padding, 96)))
    given = padded, torch.tensor([before]), torch.tensor([count - 1])
    logits = Fused(model.get_base_model()).read(*given, keys, values, 2.0 * scale)
    torch.testing.assert_close(logits, wanted, atol=2e-5, rtol=0)
    for layer, k, v in zip(state.cache.layers, keys, values, strict=True):
        end = before + count
        torch.testing.assert_close((k[:, :, :end], v[:, :, :end]), (layer.keys, layer.values), atol=1e-5, rtol=0)
    assert torch.equal(padded[:count], prompt)


@triton
@torch.inference_mode()
@pytest.mark.parametrize("known", [2048, 46, 44], ids=["", "two steps past what it knows", "a prompt past that"])
def test_an_engine_of_kernels_answers_as_the_model_does(monkeypatch, known):
    monkeypatch.setattr("salmonn_core.fused.TILE", Tile(32, 64, 4))
    model = llama(max_position_embeddings=known)
    engine, reference = StaticLlama(model, 2.0), PeftLlm(model, 2.0)
    engine._fused = Fused(model.get_base_model())
    head, prompt = torch.randn(5, 96), torch.randn(40, 96)
    for scale in (1.0, 0.5):
        found = []
        for llm in (engine, reference):
            prefix, first = llm.prefill([head], scale)
            state, second = llm.prefill([prompt], scale, [prefix])
            logits = [first, second]
            for token in (7, 3, 9):
                state, after = llm.step(state, torch.tensor([token]), scale)
                logits.append(after)
            found.append(torch.cat(logits))
        torch.testing.assert_close(*found, atol=2e-5, rtol=0)


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
    assert fused._begins() == {"EARLY": False}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert fused._begins() == ({"EARLY": True, "launch_pdl": True} if early else {"EARLY": False})


@pytest.mark.parametrize(
    ("capability", "dtype", "can"),
    [((7, 5), torch.bfloat16, False), ((7, 5), torch.float16, True), ((8, 0), torch.bfloat16, True)],
)
def test_bfloat16_kernels_are_left_to_gpus_that_have_it(monkeypatch, capability, dtype, can):
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    assert fused._compiles(SimpleNamespace(dtype=dtype, is_cuda=True, device="cuda:0")) == can


COMPILED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from salmonn_core.kernels import attend, place, product
from salmonn_core.prompt_kernels import attend_many, gate_many, place_many

TYPES = {"finished": "*i32", "position": "*i64"} | dict.fromkeys(("rows", "room", "count", "longest", "inner"), "i32")
TYPES |= dict.fromkeys(("eps", "strength", "scale"), "fp32")
TYPES |= dict.fromkeys(("projected", "cosine", "sine", "totals", "bests", "weights"), "*fp32")
SIZES = {"WIDTH": 4096, "NORM": True, "GATED": True, "ADDED": True, "ROWS": 4, "UNROLL": 2}
SIZES |= {"HEADS": 32, "GROUPS": 32, "HALF": 64, "RANK": 16}
SIZES |= {"ROOM": 512, "SHARED": 1, "DIM": 128, "BLOCK": 64, "CHUNKS": 8, "EARLY": True}
LATER = {"ROWS": 32, "BLOCK": 64}
for kernel, changed in ((product, {}), (place, {}), (attend, {}), (place_many, LATER), (attend_many, LATER),
                        (gate_many, {"BLOCK": 1024})):
    names, sizes = [each.name for each in kernel.params], SIZES | changed
    types = TYPES | ({"projected": "*bf16"} if changed else {})
    signature = {name: "constexpr" if name in sizes else types.get(name, "*bf16") for name in names}
    source = ASTSource(kernel, signature, {name: sizes[name] for name in names if name in sizes})
    options = {} if changed else {"launch_pdl": True}
    code = compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    found = (code.count(each) for each in ("griddepcontrol.wait", "atom.global.gpu.acq_rel", "mma.sync"))
    print(kernel.__name__, *(int(bool(count)) for count in found))
"""


@triton
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    program = tmp_path / "compiled.py"
    program.write_text(COMPILED)
    here = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, env=os.environ | here)
    assert ran.stdout.splitlines() == [
        *("product 1 0 0", "place 1 0 0", "attend 1 1 0"),
        *("place_many 0 0 1", "attend_many 0 0 1", "gate_many 0 0 0"),
    ], ran.stderr
