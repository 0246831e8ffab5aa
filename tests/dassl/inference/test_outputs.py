import pytest

from dassl.inference.outputs import keep_the_run
from dassl.utils.errors import UserError


def test_only_what_the_run_has_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text("{}")
    (tmp_path / "tuned.safetensors").write_text("")
    keep_the_run(run / "answers.csv", run, "--out")
    keep_the_run(tmp_path / "tuned.safetensors", run, "--out")
    with pytest.raises(UserError, match=r"--out .*results\.json is already a file in .*run, and writing would destroy"):
        keep_the_run(run / ".." / "run" / "results.json", run, "--out")
    with pytest.raises(UserError, match="is the exported file itself"):
        keep_the_run(tmp_path / "tuned.safetensors", str(tmp_path / "tuned.safetensors"), "--out")
