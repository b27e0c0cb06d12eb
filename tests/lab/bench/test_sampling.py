"""The sampling benchmark: ratios of what it timed, and a table that changes one size at a time."""

import pytest

from chainrule.cli.common import report_rows
from chainrule.lab.bench import bench_growth, bench_sampling, sampling
from chainrule.models import PixelCNN, PixelCNNMADE


def test_ratios():
    figures = bench_sampling(PixelCNN((2, 3, 4), 3, 6, 1), n=3, repeats=2, passes=4)
    assert figures["naive_passes"] == 24
    assert figures["ratio"] == pytest.approx(24 * figures["pass_seconds"] / figures["cached_seconds"])
    assert figures["ratio_to_a_pass_for_each_pixel"] == pytest.approx(figures["ratio"] / 2)
    assert figures["ratio_to_own_passes"] == pytest.approx(24 * figures["own_pass_seconds"] / figures["cached_seconds"])
    assert figures["cached_peak_megabytes"] > 50
    assert figures["pass_of"] == "this model"


def test_the_yardstick_is_the_usual_code(monkeypatch):
    """Where the plain reference covers the model, its passes are what the ratio is taken to."""
    asked = []
    plain = sampling.PlainPixelCNNMADE.logits
    monkeypatch.setattr(sampling.PlainPixelCNNMADE, "logits", lambda self, x: asked.append(len(x)) or plain(self, x))
    figures = bench_sampling(PixelCNNMADE((2, 3, 4), 3, 6, 1), n=3, repeats=1, passes=4)
    assert figures["pass_of"] == "the plain reference"
    assert asked == [3] * 5  # one to warm up


def test_growth_changes_one_size_at_a_time(monkeypatch):
    def measured(model, n, repeats, passes):
        sizes.append((n, model.shape[1], model.config["filters"], model.config["blocks"]))
        return {"cached_seconds": 1.0, "pass_seconds": 2.0, "naive_passes": 3, "ratio": 6.0}

    sizes = []
    monkeypatch.setattr(sampling, "bench_sampling", measured)
    rows = list(bench_growth())
    assert sizes == [(row["batch"], row["side"], row["filters"], row["blocks"]) for row in rows]
    assert len(set(sizes)) == len(sizes)
    assert all(sum(a != b for a, b in zip(size, sizes[0], strict=True)) == 1 for size in sizes[1:])
    assert {size[0] for size in sizes} >= {1, 100, 1000}


def test_rows_as_a_table_and_as_json(capsys):
    rows = [{"a_b": 1, "c": 0.123456}, {"a_b": 22, "c": 7.0}]
    report_rows(rows, False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["a", "b", "c"], ["1", "0.1235"], ["22", "7"]]
    report_rows(rows, True)
    assert capsys.readouterr().out.splitlines() == ['{"a_b": 1, "c": 0.123456}', '{"a_b": 22, "c": 7.0}']
