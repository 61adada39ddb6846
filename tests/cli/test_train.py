"""``xdm train`` as it is used: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import json

import pytest

from tests.learning import SMALL, call, sets
from xdm.bundle.reading import load_recommender


def test_a_file_a_preset_and_settings_make_a_bundle(simulated, tmp_path, capfd):
    (tmp_path / "run.yaml").write_text("preset: sdm\ntraining: {epochs: 3}\n")
    out = tmp_path / "bundle"
    arguments = ["--config", tmp_path / "run.yaml", *sets(*SMALL, "training.epochs=1"), "--seed", 4, "--quiet"]
    assert call("train", simulated, "--out", out, *arguments) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("sdm: best of 1 epochs is epoch 1, validation recall@50 0.")
    assert printed.out.endswith(f"bundle: {out}\n")
    assert printed.err == ""
    manifest = load_recommender(out).manifest
    assert (manifest["model"], manifest["seed"], manifest["best_epoch"]) == ("sdm", 4, 1)


def test_progress_goes_to_standard_error_and_json_to_standard_output(simulated, tmp_path, capfd):
    assert call("train", simulated, "--out", tmp_path / "b", "--model", "xdm", *sets(*SMALL), "--json") == 0
    printed = capfd.readouterr()
    result = json.loads(printed.out)
    assert result["model"] == "xdm"
    assert result["epochs"] == len(result["validation"]) == 2
    assert f"{result['labels']:,} labels in {result['sessions']:,} sessions; left out: " in printed.err
    for reason, count in result["labels_left_out"].items():
        assert f"{count:,} {reason.replace('_', ' ')}" in printed.err
    assert "epoch 2: validation recall@50" in printed.err
    assert "(best)" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "xmd"], "there is no model 'xmd'. Did you mean 'xdm'?"),
        (["--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (sets("training.epochs=none"), "training.epochs: "),
        (sets("split.test=1h", "split.validation=90d"), "split: validation from"),
        (sets("split.test=soon"), "'soon' is no time"),
        (sets("data.min_clicks=100000"), "has 100000 clicks before"),
    ],
)
def test_wrong_use_is_one_message_exit_code_2_and_no_bundle(simulated, tmp_path, capfd, arguments, message):
    assert call("train", simulated, "--out", tmp_path / "bundle", *arguments, "--quiet") == 2
    printed = capfd.readouterr()
    assert message in printed.err
    assert printed.err.startswith("xdm: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "bundle").exists()


def test_no_store_is_said(tmp_path, capfd):
    assert call("train", tmp_path, "--out", tmp_path / "bundle", "--quiet") == 2
    assert "is no event store; make one with: xdm prepare" in capfd.readouterr().err


def test_a_folder_that_is_not_ours_is_never_replaced(simulated, tmp_path, capfd):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    assert call("train", simulated, "--out", tmp_path / "thesis", "--overwrite", "--quiet", *sets(*SMALL)) == 2
    assert "was not written by xdm and is not replaced" in capfd.readouterr().err
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
