"""The authors' side of `tdm.py`, run by a Python up to 3.11 that has MXNet 1.9.1 and NumPy below 1.24.

``python parity/tdm_mxnet.py CHECKOUT IN.npz OUT.npz`` builds the authors' network with the weights and pairs of IN and writes its
logits and all gradients to OUT. Their script as a whole needs XDL, which feeds the network and looks rows up in its tables. The
network itself is MXNet: its layers, and one function inside of the script, taken out of it as they are but for what Python 3
writes otherwise (by lib2to3: print, xrange).
"""

from __future__ import annotations

import ast
import sys
from lib2to3 import refactor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mxnet as mx
import numpy as np

FOLDER = "xdl-algorithm-solution/TDM/script/tdm_ub_att_ubuntu"


def tree_of(path: Path) -> ast.Module:
    """A file of Python 2 as a syntax tree of Python 3."""
    fixers = refactor.get_fixers_from_package("lib2to3.fixes")
    return ast.parse(str(refactor.RefactoringTool(fixers).refactor_string(path.read_text("utf8"), str(path))))


def network(folder: Path) -> Any:
    """Their ``dnn_model_define``, without the decorator by which XDL wraps it."""
    names: dict[str, Any] = {}
    exec(compile(tree_of(folder / "tdm_layer_master.py"), "tdm_layer_master.py", "exec"), names)
    found = next(
        node for node in ast.walk(tree_of(folder / "train.py"))
        if isinstance(node, ast.FunctionDef) and node.name == "dnn_model_define"
    )  # fmt: skip
    found.decorator_list = []
    exec(compile(ast.Module([found], []), "train.py", "exec"), names)
    return SimpleNamespace(**names).dnn_model_define


def main(checkout: str, given: str, out: str) -> None:
    asked = dict(np.load(given))
    rows, clicks, d = asked["clicks"].shape
    items = [mx.sym.var(f"item_{place}") for place in range(clicks)]
    node, label, indicator = (mx.sym.var(name) for name in ("node", "label", "indicator"))
    chances, _ = network(Path(checkout, FOLDER))(items, indicator, node, label, rows, d, str(asked["windows"]))
    both = mx.sym.Group([chances, chances.get_internals()["fc_4_d_output"]])
    inputs = {f"item_{place}": asked["clicks"][:, place] for place in range(clicks)} | {
        "node": asked["nodes"], "label": np.stack([1 - asked["labels"], asked["labels"]], axis=1),
    } | {name[7:]: value for name, value in asked.items() if name.startswith("weight:")}  # fmt: skip
    held = {name: mx.nd.array(inputs[name]) for name in both.list_arguments()}
    slopes = {name: mx.nd.zeros(array.shape) for name, array in held.items() if name != "label"}
    _, _, shapes = both.infer_shape(**{name: array.shape for name, array in held.items()})
    state = dict(zip(both.list_auxiliary_states(), map(mx.nd.zeros, shapes), strict=True))
    executor = both.bind(mx.cpu(), held, args_grad=slopes, grad_req="write", aux_states=state)
    logits = executor.forward(is_train=True)[1].asnumpy()
    executor.backward([mx.nd.ones((rows, 2)), mx.nd.zeros((rows, 2))])  # the first is a softmax with its own gradient
    found = {name: slope.asnumpy() for name, slope in slopes.items()}
    of_clicks = np.stack([found.pop(f"item_{place}") for place in range(clicks)], axis=1)
    for name in found:
        if name.startswith("alpha_1_") and name.endswith("_d"):
            # MXNet's LeakyReLU behind another layer computes in place, and so gives the gradient of its slope times the slope
            found[name] = found[name] / asked[f"weight:{name}"]
    np.savez(out, logits=logits, clicks=of_clicks, **{f"gradient:{name}": slope for name, slope in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
