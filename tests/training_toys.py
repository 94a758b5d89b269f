"""A base LLM, feature stores and manifests of toy size, so that a whole stage runs in seconds."""

import json

import numpy as np
import soundfile

SENTENCES = ("turn on the light", "play some music", "what time is it", "call my mother", "set an alarm for six")


def toy_llm(folder):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def toy_set(folder, count=12):
    """A manifest of short noises with texts, and Whisper-like states of each."""
    from torch import from_numpy

    from salmonn_core.training.corpus import SPEECH_WIDTH
    from salmonn_core.training.features import FeatureStore

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows, states = [], {}
    for number in range(count):
        path = folder / f"{number}.wav"
        soundfile.write(path, rng.normal(0, 0.1, 16000).astype(np.float32), 16000)
        rows.append({"path": path.name, "text": SENTENCES[number % len(SENTENCES)], "task": "asr"})
        states[str(path)] = rng.normal(size=(120 + 12 * (number % 3), SPEECH_WIDTH)).astype(np.float32)
    manifest = folder / "speech.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = FeatureStore(folder / "whisper", SPEECH_WIDTH)
    store.add((([path], [rows]) for path, rows in states.items()), lambda clips: [from_numpy(clips[0])])
    return manifest
