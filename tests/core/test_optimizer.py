"""Our Adam is PyTorch's, to the bit, without its compiler."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from mixunlearn.optimization import adam

STEPS = 5


def trained(make: Callable[[torch.nn.Module], torch.optim.Optimizer]) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
    optimizer = make(model)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.ones(2, 5)).square().sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return {**model.state_dict(), "state": optimizer.state_dict()}


def test_it_takes_the_steps_of_pytorchs_adam() -> None:
    ours = trained(lambda model: adam(model, 1e-2, 1e-3))
    theirs = trained(
        lambda model: torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3, fused=True)
    )
    assert torch.equal(ours["weight"], theirs["weight"])
    assert torch.equal(ours["bias"], theirs["bias"])
    assert ours["state"]["param_groups"] == theirs["state"]["param_groups"]
    for name, moment in ours["state"]["state"][0].items():
        assert torch.equal(moment, theirs["state"]["state"][0][name])


def test_it_does_not_load_the_compiler() -> None:
    script = (
        "import sys, torch; from mixunlearn.optimization import adam\n"
        "model = torch.nn.Linear(2, 1); optimizer = adam(model, 1e-3)\n"
        "model(torch.ones(1, 2)).sum().backward(); optimizer.step(); optimizer.zero_grad()\n"
        "optimizer.load_state_dict(optimizer.state_dict()); print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"
