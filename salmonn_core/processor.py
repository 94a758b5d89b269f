"""What the processor of this machine multiplies quickly. Laptops mostly lack what servers have."""

from __future__ import annotations

from functools import cache

import torch


@cache
def multiplies_bfloat16() -> bool:
    """Whether matrices of bfloat16 are faster than those of float32.

    They are with AVX-512 BF16 (and AMX, which comes with it). Without AVX-512 each number is converted on its way, and
    hearing takes seven times as long.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(torch.cpu.get_capabilities()["avx512_bf16"])


@cache
def multiplies_int8() -> bool:
    """Whether the int8 engine runs here; it needs FBGEMM, which is for x86."""
    return "fbgemm" in torch.backends.quantized.supported_engines
