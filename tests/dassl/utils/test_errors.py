"""What messages advise."""

from dassl.utils.errors import PassingError, UserError, another_folder


def test_another_folder_is_had_by_the_flag_or_by_what_a_script_names(monkeypatch):
    monkeypatch.delenv("RUN_FOLDER_BY", raising=False)
    assert another_folder() == "another --output-dir"
    monkeypatch.setenv("RUN_FOLDER_BY", "TAG or OUTPUT")
    assert another_folder() == "another TAG or OUTPUT"


def test_what_may_pass_is_a_mistake_all_the_same():
    assert issubclass(PassingError, UserError)
