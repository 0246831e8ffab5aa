"""python -m clip."""

from clip.__main__ import main


def test_the_commands(capsys, empty_home, tmp_path):
    assert main(["list", "ViT-B/"]) == 0
    assert "ViT-B/16" in capsys.readouterr().out
    assert main(["list", "--architectures", "PE-Core-T"]) == 0
    assert capsys.readouterr().out == "PE-Core-T-16-384\n"
    assert main(["fetch", "RN5O", "--to", str(tmp_path / "to")]) == 1
    assert capsys.readouterr().err.startswith("error: unknown backbone 'RN5O'; did you mean RN50")
    assert not (tmp_path / "to").exists()
    (tmp_path / "file").touch()
    for words, told in (
        (["fetch", "RN50", "--to", str(tmp_path / "file")], f"the folder {tmp_path / 'file'} cannot be made"),
        (["list", "--architectures", "zzz"], "open_clip has no architecture with 'zzz' in its name"),
    ):
        assert main(words) == 1 and capsys.readouterr().err.startswith(f"error: {told}")
    assert main(["activation", "w.pt", str(tmp_path / "nowhere")]) == 1
