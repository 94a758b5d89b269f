"""Small SALMONNs with random weights in the layouts of the official releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, WhisperConfig, WhisperModel

from salmonn_core.beats import Beats
from salmonn_core.bridge import Bridge
from salmonn_core.checkpoint import OfficialFiles
from salmonn_core.config import BeatsConfig, QFormerConfig

HEADS = 3
BEATS = {
    "embed_dim": 32,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 2,
    "encoder_layers": 2,
    "conv_pos": 31,
    "conv_pos_groups": 4,
    "num_buckets": 64,
    "max_distance": 128,
    "conv_bias": True,
    "deep_norm": True,
    "finetuned_model": True,
    "predictor_class": 7,
}
LORA = {"rank": 4, "alpha": 24, "targets": ("k_proj", "o_proj")}
BACK = (
    ("qformer.layernorm.", "speech_Qformer.bert.embeddings.LayerNorm."),
    ("attention.attention.", "attention.self."),
    ("qformer.", "speech_Qformer.bert."),
    ("query_tokens", "speech_query_tokens"),
    ("projection.", "speech_llama_proj."),
)


def write(folder: Path, **qformer: Any) -> OfficialFiles:
    """salmonn.pth, beats.pt, whisper/ (two shards, without the decoder's prefix) and llama/; float16 values."""
    torch.manual_seed(0)
    config = QFormerConfig(hidden_size=48, attention_heads=HEADS, intermediate_size=80, **qformer)
    llm = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4)
    )
    whisper = WhisperModel(
        WhisperConfig(
            d_model=32,
            encoder_layers=3,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            vocab_size=60,
            pad_token_id=0,
            num_mel_bins=128,
        )
    )
    beats, bridge = Beats(BeatsConfig(**BEATS)), Bridge(config, 32, 48, 40)
    for module in (llm, whisper, beats, bridge):
        scramble(module)
    llm.save_pretrained(folder / "llama")
    tokenizer().save_pretrained(folder / "llama")
    whisper.save_pretrained(folder / "whisper", max_shard_size="100KB")
    torch.save({"cfg": BEATS, "model": beats.state_dict()}, folder / "beats.pt")
    settings = {"second_per_window": config.window_s, "second_stride": config.stride_s, "lora_alpha": LORA["alpha"]}
    state = {official(key): value for key, value in bridge.state_dict().items()} | lora(llm)
    torch.save({"model": state, "config": {"model": settings}}, folder / "salmonn.pth")
    return OfficialFiles(*(folder / name for name in ("salmonn.pth", "beats.pt", "whisper", "llama")))


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", *alphabet])}
    plain = Tokenizer(models.BPE(vocabulary, []))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")


def scramble(module: nn.Module) -> None:
    """Every value random, so that no bias or norm hides behind a zero or a one."""
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.1 * torch.randn_like(parameter)).half().float()


def official(key: str) -> str:
    """One of our names as the checkpoint has it."""
    for ours, theirs in BACK:
        key = key.replace(ours, theirs)
    return key


def lora(llm: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Random LoRA weights as `salmonn_v1.pth` names them."""
    found = {}
    for name, module in llm.named_modules():
        if name.endswith(LORA["targets"]):
            root = f"llama_model.base_model.model.{name}"
            found[f"{root}.lora_A.default.weight"] = torch.randn(LORA["rank"], module.in_features) * 0.1
            found[f"{root}.lora_B.default.weight"] = torch.randn(module.out_features, LORA["rank"]) * 0.1
    return found
