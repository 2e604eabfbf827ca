import re
from pathlib import Path

import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_example_of_the_operations_runs_as_it_stands():
    (example,) = (
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "import ops" in block
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 8 * 3, 5))
    names = {
        "images": torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8),
        "labels": torch.randint(0, 5, (50,)),
        "index": torch.tensor([3, 1, 4, 1, 5]),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "epoch": 3,
        "model": model,
    }
    exec(example, names)
    assert names["terms"].margins.shape == (5,)
    assert model[1].weight.grad.abs().sum() > 0
