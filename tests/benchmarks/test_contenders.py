"""The contenders of the speed benchmarks: what they compute, how many operations, and what they leave on disk."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import contenders
import processor
import pytest
import torch
from contenders import Contender, why_left_out
from names import ADAPTERHUB, FULL, display_name
from products import count_products, product_rate
from safetensors import safe_open

B, L, H, INNER, LAYERS, C, P = 3, 16, 32, 64, 2, 5, 64
WIDTHS = [24, 8]
SHAPE: dict[str, Any] = {
    "encoder": {
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": INNER,
        "vocab_size": 50,
        "max_position_embeddings": 32,
    },
    "batch_size": B,
    "length": L,
    "modalities": WIDTHS,
    "labels": C,
}
FORWARD = LAYERS * (2 * B * L * (4 * H * H + 2 * H * INNER) + 4 * B * L * L * H)
"""Products of the layers: four projections, two of the feed-forward block, scores and their sum of values."""


def make(name: str, **sizes: Any) -> Contender:
    with warnings.catch_warnings():
        # PEFT 0.21 still asks transformers 5 by the old names.
        warnings.simplefilter("ignore", FutureWarning)
        return Contender(name, {**SHAPE, **sizes})


def logits(contender: Contender) -> torch.Tensor:
    contender.model.eval()
    with torch.inference_mode():
        return contender.run()["logits"]


def test_full_fine_tuning_makes_the_products_of_a_bert() -> None:
    contender = make(FULL)
    pooler_and_head = 2 * B * (H * H + H * C)
    tokens = sum(2 * B * width * H for width in WIDTHS)
    assert count_products(contender.infer) == FORWARD + pooler_and_head + tokens
    # Backwards each product has two; the features of the modalities need no gradient.
    assert count_products(contender.step) == 3 * (FORWARD + pooler_and_head) + 2 * tokens


def test_our_adapters_add_their_own_products_to_those_of_the_encoder() -> None:
    sites = 2 * LAYERS
    gates = 2 * B * L * P * (3 * P) + 2 * B * (2 * P) * (3 * P)
    adapters = sites * (2 * B * L * 2 * H * P + gates + sum(2 * B * width * P for width in WIDTHS))
    contender = make("ours")
    # The encoder's own pooler is there and runs, though the head reads the first token.
    inference = FORWARD + adapters + 2 * B * (H * H + H * C)
    assert count_products(contender.infer) == inference
    # Frozen products have one gradient, learned ones two; the first layer's attention needs less.
    assert 2 * FORWARD * 0.8 + 3 * adapters * 0.8 < count_products(contender.step) < 2 * inference + 2 * adapters


def test_full_fine_tuning_reads_the_modalities_in_the_place_of_the_last_tokens() -> None:
    contender = make(FULL)
    before = logits(contender)
    contender.batch["input_ids"][:, -1] = 7
    assert torch.equal(logits(contender), before)
    contender.features["m1"] += 1.0
    assert not torch.equal(logits(contender), before)


def test_a_cached_prefix_changes_no_output_and_saves_its_products() -> None:
    whole, cached = make("ours last 1"), make("ours last 1, cached")
    torch.testing.assert_close(logits(cached), logits(whole))
    assert count_products(whole.infer) - count_products(cached.infer) == FORWARD // LAYERS
    assert cached.known()["parameters"] < whole.known()["parameters"]


@pytest.mark.parametrize("name", [FULL, "lora r=8", "ours text-only", "ours", "ours shared", "ours last 1, cached"])
def test_a_step_changes_what_is_trained_and_nothing_else(name: str) -> None:
    contender = make(name)
    before = {key: value.clone() for key, value in contender.model.state_dict().items()}
    for _ in range(2):
        contender.step()
    trained = {key for key, value in contender.model.named_parameters() if value.requires_grad}
    assert sum(before[key].numel() for key in trained) == contender.trainable
    changed = {key for key, value in contender.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert changed <= trained
    assert contender.model.training


def test_bfloat16_is_near_to_float32_and_not_the_same() -> None:
    full, half = make("ours"), make("ours bf16")
    assert half.known()["precision"] == "bfloat16"
    exact, rounded = logits(full), logits(half).float()
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # The compiler itself uses what PyTorch has deprecated.
@pytest.mark.skipif(processor.cpp_compiler() is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_contender_gives_the_same_numbers() -> None:
    plain, compiled = make("ours"), make("ours compiled")
    torch.testing.assert_close(logits(compiled), logits(plain), rtol=1e-4, atol=1e-5)
    compiled.step()
    assert count_products(lambda: compiled.infer(eagerly=True)) == count_products(plain.infer)


def test_what_is_saved_is_what_was_trained(tmp_path: Path) -> None:
    ours = make("ours")
    ours.save(str(tmp_path))
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        saved = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    assert saved == ours.trainable
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert ours.saved_bytes() == size > 4 * ours.trainable
    full = make(FULL)
    assert 4 * full.trainable < full.saved_bytes() < 4 * full.trainable + 20_000


def test_another_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"no contender 'hours'.*'ours shared'.*'ours last N, cached'"):
        make("hours")
    with pytest.raises(ValueError, match="2 modalities leave no token of a text of 2"):
        make(FULL, length=2)


def test_a_product_s_rate_is_that_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 20.0, 20.25, 30.0, 32.0])
    monkeypatch.setattr("products.time.perf_counter", lambda: next(times))
    assert product_rate(size=16) == 2 * 16**3 / 0.5


def test_who_cannot_be_measured_is_told_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Z80\nflags\t\t: fpu avx512_bf16 sse\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    monkeypatch.setattr(contenders, "cpp_compiler", lambda: None)
    assert processor.machine(2) | {"cores": 0, "memory_gigabytes": 0, "cpu": ""} == {
        "cpu": "",
        "processor": "Z80",
        "cores": 0,
        "threads": 2,
        "memory_gigabytes": 0,
        "bf16": ["avx512_bf16"],
    }
    assert why_left_out("ours bf16", {}) is None
    assert why_left_out("ours", {}) is None
    assert why_left_out("ours compiled", {}) == "no C++ compiler"
    assert "make bench-adapterhub-env" in str(why_left_out(ADAPTERHUB, {}))
    assert why_left_out(ADAPTERHUB, {ADAPTERHUB: "python"}) is None
    cpuinfo.write_text("flags\t\t: fpu sse\n")
    assert why_left_out("ours bf16", {}) == "the processor has none of avx512_bf16, amx_bf16, bf16"
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "absent")
    assert processor.machine(1)["processor"] is None
    assert json.dumps(processor.machine(1))


def test_the_compiler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert processor.cpp_compiler() == str(compiler)
    monkeypatch.setenv("CXX", "another")
    assert processor.cpp_compiler() is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (FULL, "full fine-tuning"),
        ("ours last 4, cached", "ours, last 4 layers, prefix cached"),
        ("ours last 1 bf16", "ours, last layer, bfloat16"),
        ("ours compiled", "ours, compiled"),
        ("in memory", "in memory"),
    ],
)
def test_names_for_people(name: str, shown: str) -> None:
    assert display_name(name) == shown
