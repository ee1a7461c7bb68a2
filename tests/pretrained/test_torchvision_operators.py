"""torchvision, and what imports it, can be imported beside a torch that its operators were not built for."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from ldmkit.pretrained.torchvision_operators import declare_torchvision_operators
declare_torchvision_operators()
declare_torchvision_operators()
import torch, torchvision
torch.ops.torchvision.nms, torch.ops.torchvision.qnms
print(torchvision.models.alexnet(weights=None)(torch.zeros(1, 3, 64, 64)).shape[1])
"""

WITHOUT = """
import sys
sys.modules["torchvision"] = None
import importlib.util
importlib.util.find_spec = lambda name: None
from ldmkit.pretrained.torchvision_operators import _declared, declare_torchvision_operators
declare_torchvision_operators()
print(len(_declared))
"""


@pytest.mark.parametrize(("program", "said"), [(PROGRAM, "1000"), (WITHOUT, "0")], ids=["with", "without"])
def test_torchvision_is_importable_afterwards_and_nothing_is_declared_without_it(program: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [said], done.stderr
