"""Tables of backbones x methods: of made-up runs, and of a sweep over three small networks."""

import json

import pytest
import yaml
from safetensors.torch import save_file

import parse_test_res
import sweep
from dassl.report.backbones import backbone_sheets
from dassl.report.figures import BEST
from dassl.report.sheets import Options
from dassl.report.study import suites
from dassl.report.suitekeys import short_backbone
from dassl.report.tree import read_tree
from dassl.results.record import BackboneInfo
from tests.clip.architectures import CONFIGS, network
from tests.dassl.report.trees import TASKS, write_run
from tests.dassl.sweep.small import Here


def run(top, label, backbone, *, digest="", figures=(60.0, 70.0, 80.0), **changes):
    """A made-up run on a backbone."""
    config = {"MODEL.BACKBONE.NAME": backbone, **changes.pop("config", {})}
    info = BackboneInfo(backbone, (digest or backbone) * 2, changes.pop("precision", "fp16"))
    place = f"NAME={backbone.replace('/', '_')}{digest}"
    return write_run(top, label, config=config, backbone=info, metrics=figures, place=f"{place}/", **changes)


def sheets(top, **options):
    return list(backbone_sheets(suites(read_tree(top)), Options(**options)))


def cells(sheet):
    """Cells by backbone and method."""
    return {row[0]: dict(zip(sheet.table.header[1:], row[1:], strict=True)) for row in sheet.table.rows}


def test_backbones_stand_below_each_other_and_the_best_of_each_method_is_marked(tmp_path):
    for number, backbone in enumerate(("RN50", "ViT-B/16", "hf-hub:imageomics/bioclip-2.5-vith14")):
        run(tmp_path, "ZS-CLIP", backbone, figures=(50.0 + number, 50.0, 50.0))
        for seed in (1, 2):
            run(tmp_path, "SoftCPT-NATA", backbone, seed=seed, figures=(70.0 - 3 * number + seed, 70.0, 70.0))
    (sheet,) = sheets(tmp_path)
    table = cells(sheet)
    assert list(table) == ["RN50", "ViT-B/16", "hf-hub:imageomics/bioclip-2.5-vith14"]
    assert list(sheet.table.header) == ["backbone", "ZS-CLIP", "SoftCPT-NATA"]
    assert [row["SoftCPT-NATA"].mean for row in table.values()] == pytest.approx([70.5, 69.5, 68.5])
    assert [row["SoftCPT-NATA"].spread for row in table.values()] == pytest.approx([1 / 6] * 3)
    best = {method: [name for name in table if table[name][method].rank == BEST] for method in table["RN50"]}
    assert best == {"ZS-CLIP": ["hf-hub:imageomics/bioclip-2.5-vith14"], "SoftCPT-NATA": ["RN50"]}
    assert sheet.title == (
        "Toy3, 4 shots: backbones, mean over 3 tasks in %, mean ± standard deviation (population) over seeds 1, 2"
    )
    assert sheet.notes == []
    _, *each = sheets(tmp_path, per_task=True)
    assert [one.keys["task"] for one in each] == list(TASKS)
    assert cells(each[0])["RN50"]["SoftCPT-NATA"].mean == 71.5


def test_what_is_missing_or_cannot_be_compared_is_said(tmp_path):
    run(tmp_path, "CoOp-MT", "RN50", seed=1)
    run(tmp_path, "CoOp-MT", "RN50", seed=2)
    other = {"subset_digest": "others", "config": {"OPTIM.LR": 0.5}}
    run(tmp_path, "CoOp-MT", "ViT-B/16", seed=1, **other)
    run(tmp_path, "SoftCPT-NATA", "ViT-B/16", tasks=TASKS[:2], figures=(90.0, 90.0))
    (sheet,) = sheets(tmp_path)
    table = cells(sheet)
    assert table["RN50"]["SoftCPT-NATA"] is None
    assert (table["RN50"]["CoOp-MT"].missing, table["ViT-B/16"]["CoOp-MT"].missing) == ("", "1/2")
    assert table["ViT-B/16"]["SoftCPT-NATA"].missing == "1/2, 2/3 tasks"
    told = "\n".join(sheet.notes)
    assert "NOT COMPARABLE: CoOp-MT, seed 1: ViT-B/16 and RN50 learned from other images" in told
    assert "CoOp-MT differs between the backbones: LR 0.5 (ViT-B/16); the usual (RN50)" in told
    run(tmp_path, "ProGrad", "RN50")
    run(tmp_path, "ProGrad", "ViT-B/16", precision="fp32")
    told = sheets(tmp_path)[0].notes[-1]
    assert told.startswith("ProGrad [all tasks in one run] differs between the backbones: ")
    assert told.endswith(": precision fp32 (ViT-B/16); precision fp16 (RN50)")


def test_other_weights_are_other_rows_and_other_test_images_other_tables(tmp_path):
    for digest in ("aaaa", "bbbb"):
        run(tmp_path, "CoOp-MT", "/one/clip.pt", digest=digest)
    run(tmp_path, "CoOp-MT", "RN50")
    (sheet,) = sheets(tmp_path)
    assert list(cells(sheet)) == ["RN50", "clip, weights aaaaaaaa", "clip, weights bbbbbbbb"]
    run(tmp_path, "CoOp-MT", "ViT-B/16", test_digest="0123456789")
    run(tmp_path, "CoOp-MT", "ViT-B/32", test_digest="")
    found = {sheet.title.partition(": ")[0]: list(cells(sheet)) for sheet in sheets(tmp_path)}
    assert found == {
        "Toy3, test images test Toy, 4 shots": ["RN50", "clip, weights aaaaaaaa", "clip, weights bbbbbbbb"],
        "Toy3, test images 01234567, 4 shots": ["ViT-B/16"],
        "Toy3, test images unknown, 4 shots": ["ViT-B/32"],
    }


def test_each_number_of_shots_has_a_table(tmp_path):
    for shots in (16, -1, 1):
        run(tmp_path, "CoOp-MT", "RN50", shots=shots)
    assert [sheet.keys["shots"] for sheet in sheets(tmp_path)] == ["1", "16", "all"]
    run(tmp_path / "other", "ZS-CLIP", "RN50")
    (sheet,) = sheets(tmp_path / "other")
    assert sheet.keys["shots"] == "0" and cells(sheet)["RN50"]["ZS-CLIP"].mean == 70


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ViT-B/16", "ViT-B/16"),
        ("ViT-L/14@336px", "ViT-L/14@336px"),
        ("hf-hub:imageomics/bioclip-2.5-vith14", "hf-hub:imageomics/bioclip-2.5-vith14"),
        ("/weights/RemoteCLIP-ViT-B-32.pt", "RemoteCLIP-ViT-B-32"),
        ("local-dir:/weights/bioclip-2.5", "bioclip-2.5"),
        ("/weights/bioclip-2.5", "/weights/bioclip-2.5"),
        ("ViT-B-16:dfn2b", "ViT-B-16:dfn2b"),
    ],
)
def test_short_names_keep_what_tells_backbones_apart(name, short):
    assert short_backbone(name) == short


@pytest.mark.parametrize("other", ["--base2new", "--new-tasks", "--transfer", "--compare=paper", "--metrics=f1"])
def test_other_tables_are_refused_beside_it(tmp_path, capsys, other):
    run(tmp_path, "CoOp-MT", "RN50")
    assert parse_test_res.main([str(tmp_path), "--rows", "backbone", other]) == 2
    assert "--rows backbone" in capsys.readouterr().err


def test_runs_of_other_protocols_have_no_such_table(tmp_path, capsys):
    run(tmp_path, "CoOp-MT", "RN50", classes="base")
    assert parse_test_res.main([str(tmp_path), "--rows", "backbone"]) == 2
    assert "no runs for --rows backbone" in capsys.readouterr().err


# ---- a sweep over small networks


def folder_of(path, kind):
    """A network as a folder in open_clip's layout, random weights."""
    path.mkdir(parents=True)
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIGS[kind]}))
    save_file({key: value.contiguous() for key, value in network(kind).state_dict().items()},
              path / "open_clip_model.safetensors")  # fmt: skip
    return path


METHODS = ["ZS-CLIP", "LP-CLIP", "CoOp-CA", "SoftCPT-NATA"]


def test_a_sweep_over_backbones_of_every_kind_of_name_has_a_table(small, tmp_path, monkeypatch, worker_here, capsys):
    monkeypatch.setattr("dassl.sweep.executor_config.Processes", lambda jobs, **options: Here(jobs))
    weights = tmp_path / "weights"
    folder_of(weights / "lab--tiny", "QuickGELU")
    names = [str(small.backbone), f"local-dir:{folder_of(tmp_path / 'gelu-2.5', 'GELU')}", "hf-hub:lab/tiny"]
    options = yaml.safe_load(small.file.read_text())["options"]
    options = {key: v for key, v in options.items() if not key.startswith(("MODEL.BACKBONE.", "TRAINER.MTCOOP"))}
    options |= {"OPTIM.MAX_EPOCH": 1, "OPTIM.WARMUP_EPOCH": 0, "TRAINER.LP.STEPS": 1, "TRAINER.COOP.N_CTX": 2}
    small.write(
        methods=METHODS, shots=[1], seeds=[1], backbone="vit_b16", vary={"MODEL.BACKBONE.NAME": names},
        options={**options, "MODEL.BACKBONE.WEIGHTS": str(weights)},
    )  # fmt: skip
    assert sweep.main(small.command("--dry-run")) == 0
    assert "15 runs: 0 done, 0 begun, 15 new" in capsys.readouterr().out
    assert sweep.main(small.command()) == 0
    assert len(small.results()) == 15
    places = {folder.split("/")[2] for folder in small.results() if folder.startswith("MTCoOp")}
    assert len(places) == 3 and not any(":" in place for place in places)
    capsys.readouterr()
    assert parse_test_res.main([str(small.output), "--rows", "backbone", "--format", "json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["notes"] == []
    rows = {row.pop("backbone"): row for row in table["rows"]}
    assert rows.keys() == {small.backbone.stem, "gelu-2.5", "hf-hub:lab/tiny"}
    assert [list(row) for row in rows.values()] == [METHODS] * 3
    (figure,) = [each.metric for name, each in small.results().items() if name.startswith("MTCoOp") and "hub" in name]
    assert rows["hf-hub:lab/tiny"]["SoftCPT-NATA"]["mean"] == pytest.approx(figure)
    assert rows["hf-hub:lab/tiny"]["CoOp-CA"]["missing"] is None, "a run for each task"
    for form in ("text", "markdown", "latex", "csv"):
        assert parse_test_res.main([str(small.output), "--rows", "backbone", "--format", form]) == 0
        assert "hf-hub:lab/tiny" in capsys.readouterr().out


@pytest.mark.parametrize("suite", ["general10", "plant6", "rs8", "fashion20"])
def test_published_sweeps_over_backbones_can_be_listed_without_weights_or_data(suite, tmp_path, capsys):
    flags = ["--dry-run", "--output-dir", str(tmp_path / "output"), "--seeds", "1"]
    assert sweep.main([f"backbones_{suite}", *flags]) == 2
    out, err = capsys.readouterr()
    assert "0 done, 0 begun" in out and "SoftCPT-NATA [NAME RN50] on" in out
    assert "needs the folder of your data sets; name it with --root FOLDER" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "output").exists()
