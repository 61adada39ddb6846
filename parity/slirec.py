"""The parts of SLi-Rec that its form for retrieval keeps, against github:zepingyu0512/sli_rec.

``python parity/slirec.py --authors CHECKOUT --tensorflow PYTHON``. The authors' code is TensorFlow 1 and runs, unchanged, under the
compatibility interface of TensorFlow 2 (2.15 was used) in a Python of its own: see `slirec_tensorflow.py`.

Compared are the LSTM with gates of time, the long-term attention and the short-term attention; the last is told the last state in
the place of the candidate's vector on both sides. Theirs has no mask in the long-term attention, so that of rows with padding is
another one there: it is compared where all rows have one length. Then the gradients of a weighed sum of both terms.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from batches import batch_of
from comparing import Found, authors_argument, gradients, our_model, run

from xdm.models.slirec import SLiRec, time_spans

ITEMS, WIDTH, ATTENTION = 60, 12, 7
# Our weights by theirs; matrices are turned, and of four vectors of theirs ours are columns.
CELL = {
    "_time_input_w1": "of_now.weight", "_time_input_bias1": "of_now.bias", "_time_input_w2": "of_last.weight",
    "_time_input_bias2": "of_last.bias", "_time_kernel_w1": "now_of_input.weight", "_time_kernel_t1": "now_of_time.weight",
    "_time_bias1": "now_of_input.bias", "_time_kernel_w2": "last_of_input.weight", "_time_kernel_t2": "last_of_time.weight",
    "_time_bias2": "last_of_input.bias", "_o_kernel_t1": "output_of_now.weight", "_o_kernel_t2": "output_of_last.weight",
    "bias": "input.bias",
}  # fmt: skip
OURS = {f"cell/{theirs}": f"short_term.{ours}" for theirs, ours in CELL.items()} | {
    "long/Variable": "of_click.weight", "long/Variable_1": "of_click.bias", "long/Variable_2": "weigh_click.weight",
    "short/f11_1/kernel": "ask.weight", "short/f11_1/bias": "ask.bias", "short/1/prelu_1": "slopes",
    "short/f1_att1_1/kernel": "weigh_state.0.weight", "short/f1_att1_1/bias": "weigh_state.0.bias",
    "short/f2_att1_1/kernel": "weigh_state.2.weight", "short/f2_att1_1/bias": "weigh_state.2.bias",
    "short/f3_att1_1/kernel": "weigh_state.4.weight",
}  # fmt: skip
KERNEL = "cell/kernel"  # theirs of click and state in one: ours are `input.weight` and `recurrent.weight`
EXTRA = "short/f3_att1_1/bias"  # of a softmax: it changes nothing, whatever it is


def as_theirs(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Weights, or gradients of weights, under our names as they are under theirs."""
    found = {theirs: tensors[ours].numpy().T for theirs, ours in OURS.items()}
    found[KERNEL] = torch.cat([tensors["short_term.input.weight"], tensors["short_term.recurrent.weight"]], dim=1).T.numpy()
    return {name: value.reshape(-1) if 1 in value.shape and "kernel" not in name else value for name, value in found.items()}


def their_side(authors: Path, tensorflow: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `slirec_tensorflow.py` answers."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = f"{folder}/in.npz", f"{folder}/out.npz"
        np.savez(asked, **given)  # type: ignore[arg-type]
        script = Path(__file__).with_name("slirec_tensorflow.py")
        subprocess.run([tensorflow, script, authors, asked, answered], check=True, capture_output=True)
        return dict(np.load(answered))


def case(authors: Path, tensorflow: str, lengths: list[int]) -> tuple[Found, Found]:
    """States, both terms and the gradients of every weight, ours and theirs, at the last click of rows of ``lengths``."""
    torch.manual_seed(1)
    settings = {"name": "slirec", "width": WIDTH, "item_width": WIDTH, "attention": ATTENTION, "fusion": "fixed"}
    encoder = our_model(settings, ITEMS).encoder
    assert isinstance(encoder, SLiRec)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.normal_(std=0.4)
        encoder.items.tables[0].weight[0] = 0  # type: ignore[index, operator]
    batch = batch_of([torch.randint(1, ITEMS + 1, (n,)).tolist() for n in lengths])
    times = 1_700_000_000 + torch.randint(1, 400_000, batch.short.shape).cumsum(1)
    ends = torch.tensor(lengths).cumsum(0) - 1
    batch = replace(batch, short_time=torch.where(batch.short > 0, times, 0)).at(ends)
    batch = replace(batch, time=batch.short_time.amax(1) + torch.randint(1, 900_000, (len(lengths),)))
    inside = batch.short > 0
    now, last = time_spans(batch.short_time, batch.time, inside)

    alike = len(set(lengths)) == 1
    of_long, of_short = torch.randn(len(lengths), WIDTH) * float(alike), torch.randn(len(lengths), WIDTH)
    asking, long, short, _ = encoder.terms(batch)
    learned = {name: weight for name, weight in encoder.named_parameters() if not name.startswith(("out.", "items."))}
    slopes = gradients((of_long * long).sum() + (of_short * short).sum(), learned.items())
    weights = as_theirs({name: weight.detach() for name, weight in learned.items()})
    theirs = their_side(authors, tensorflow, {
        "x": encoder.items(batch.short).detach().numpy(), "now": now.numpy(), "last": last.numpy(), "lengths": np.array(lengths),
        "attention": np.array(ATTENTION), "of_long": of_long.numpy(), "of_short": of_short.numpy(),
        **{f"weight:{name}": value for name, value in weights.items()}, f"weight:{EXTRA}": np.array([0.3], np.float32),
    })  # fmt: skip
    del theirs[f"gradient of {EXTRA}"]
    ours = {"asking": asking, "short": short, **({"long": long} if alike else {})}
    if not alike:
        del theirs["long"]
    own = as_theirs({name.removeprefix("gradient of "): slope for name, slope in slopes.items()})
    found = {name: tensor.detach() for name, tensor in ours.items()}
    found |= {f"gradient of {name}": torch.from_numpy(value.copy()) for name, value in own.items()}
    return found, {name: torch.from_numpy(value).reshape(found[name].shape) for name, value in theirs.items()}


if __name__ == "__main__":
    asked = authors_argument("SLi-Rec: our cell and attentions against the authors'", tensorflow="a Python with TensorFlow 2")
    cases = {"rows of one length": [9] * 5, "rows of 1 to 20 clicks": [1, 20, 7, 2, 13]}
    run("slirec", "github:zepingyu0512/sli_rec", asked.commit, {
        name: lambda lengths=lengths: case(asked.authors, asked.tensorflow, lengths) for name, lengths in cases.items()
    }, compared="the LSTM with gates of time and both attentions")  # fmt: skip
