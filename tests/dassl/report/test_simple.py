import sys

import pytest

from dassl.report.simple import plot_shots
from dassl.results.tables import summarise
from dassl.utils.errors import UserError
from tests.dassl.results.samples import make_result

CELLS = summarise(
    [("ZS-CLIP", make_result(metric=40.0, trainer="ZeroshotCLIP"))]
    + [(label, make_result(metric=60.0 + s + d, shots=s)) for label in ("A", "B") for s in (1, 4) for d in (0, 2)]
    + [("A", make_result(metric=None, shots=16)), ("B", make_result(metric=99.0, shots=-1))]
)


def test_png(tmp_path):
    pytest.importorskip("matplotlib")
    path = plot_shots(CELLS, tmp_path / "new" / "curves.png", title="Demo6")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in path.parent.iterdir()] == ["curves.png"]


def test_svg_holds_every_method_and_is_reproducible(tmp_path):
    pytest.importorskip("matplotlib")
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        first = plot_shots(CELLS, tmp_path / "a.svg").read_text()
        second = plot_shots(CELLS, tmp_path / "b.svg").read_text()
    assert first == second
    assert all(f">{label}<" in first for label in ("ZS-CLIP", "A", "B"))
    assert "stroke-dasharray" in first  # the zero-shot line


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        plot_shots(CELLS, tmp_path / "a.png")
