"""``torch.compile``: the gradients of a compiled model are those of the eager one, for every fusion."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from test_autograd import batch, model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"share_projections": True},
        {"fusion": "softmax_gmu"},
        {"fusion": "concat"},
        {"fusion": "cross_attention"},
        {"fusion": "mag"},
    ],
    ids=str,
)
def test_gradients_of_a_compiled_model(options: dict[str, object]) -> None:
    adapted = model(0.0, **options).eval()
    gradients = []
    for compiled in (False, True):
        torch._dynamo.reset()
        own = copy.deepcopy(adapted)
        runs = torch.compile(own) if compiled else own
        runs(**batch())["loss"].backward()
        gradients.append({n: p.grad for n, p in own.named_parameters() if p.grad is not None})
    assert gradients[1].keys() == gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)
