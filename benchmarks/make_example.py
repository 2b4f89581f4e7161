"""Make the example: a small network for handwritten digits, and three properties of it.

    python benchmarks/make_example.py [FOLDER]        # default: examples

The network is trained on the 8 x 8 digits that scikit-learn brings along (no download). Each
property asks whether an image can be classified differently after every pixel has moved by at
most epsilon: one is easy to prove, one is false, one needs a search. Training is seeded, yet other
versions of torch may round differently; the files in the repository are what the tests use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper, save
from sklearn.datasets import load_digits
from torch import nn

WIDTH = 32
IMAGE = 3  # the image that the properties are about; the first ones are held out from training
EPSILONS = {"robust": 0.03, "fragile": 0.15, "searched": 0.095}


def main() -> None:
    """Train, export, and write the properties."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "examples")
    folder = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    images = images.float() / 16
    network = train(images[200:], labels[200:])
    accuracy = (network(images[:200]).argmax(1) == labels[:200]).float().mean().item()
    print(f"accuracy on 200 images that were held out: {accuracy:.3f}")
    export(network, folder / "digits.onnx")
    label = int(network(images[IMAGE : IMAGE + 1]).argmax())
    for name, epsilon in EPSILONS.items():
        text = robustness(images[IMAGE].double().numpy(), label, 10, epsilon)
        (folder / f"digits_{name}.vnnlib").write_text(text)


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int = 60) -> nn.Sequential:
    """A network of two hidden layers, trained for a few seconds."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            noisy = images[batch] + 0.1 * torch.randn_like(images[batch])  # makes robust images likelier
            loss = nn.functional.cross_entropy(network(noisy), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network


def export(network: nn.Sequential, path: Path) -> None:
    """Write the network as ONNX, node by node."""
    nodes, constants, name = [], [], "image"
    for i, layer in enumerate(network):
        result = "scores" if i == len(network) - 1 else f"h{i}"
        if isinstance(layer, nn.Linear):
            weights = {f"w{i}": layer.weight, f"b{i}": layer.bias}
            constants += [numpy_helper.from_array(value.detach().numpy(), key) for key, value in weights.items()]
            nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [result], name=f"linear{i}", transB=1))
        else:
            nodes.append(helper.make_node("Relu", [name], [result], name=f"relu{i}"))
        name = result
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 64])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])]
    graph = helper.make_graph(nodes, "digits", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="make_example")
    model.ir_version = 8
    save(model, path)


def robustness(image: np.ndarray, label: int, n_classes: int, epsilon: float) -> str:
    """VNN-LIB for: some image within epsilon has another class whose score is at least the label's."""
    lower, upper = np.clip(image - epsilon, 0, 1), np.clip(image + epsilon, 0, 1)
    others = [k for k in range(n_classes) if k != label]
    lines = [f"; digit {label}: can another class win if every pixel moves by at most {epsilon}?"]
    lines += [f"(declare-const X_{i} Real)" for i in range(image.size)]
    lines += [f"(declare-const Y_{k} Real)" for k in range(n_classes)]
    for i, (low, high) in enumerate(zip(lower, upper)):
        lines += [f"(assert (>= X_{i} {low:.6g}))", f"(assert (<= X_{i} {high:.6g}))"]
    lines += ["(assert (or"] + [f"    (and (>= Y_{k} Y_{label}))" for k in others] + ["))"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
