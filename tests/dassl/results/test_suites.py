"""The heading and the digest of a suite, and whether a model learned another one."""

from dassl.results.suites import LearnedOn, learned_on, suite_digest, suite_heading

OWN = {"DATASET.NAME": "MyTasks", "DATASET.TASKS": [{"name": "mug colour", "folder": "a"}]}


def test_the_heading_has_a_title_members_or_the_first_tasks():
    assert suite_heading("Demo6", (), ()) == "Demo6"
    assert suite_heading("Demo6", ("DemoDigits",), ()) == "Demo6 (DemoDigits)"
    tasks = [{"name": str(number)} for number in range(6)]
    assert suite_heading("Mugs", (), tasks) == "Mugs (0, 1, 2, 3, and 2 more)"


def test_places_make_no_other_suite_and_everything_else_does():
    there = suite_digest("MyTasks", (), OWN["DATASET.TASKS"])
    assert suite_digest("MyTasks", (), [{"name": "mug colour", "folder": "b", "table": "t.csv"}]) == there
    others = [("Other", (), OWN["DATASET.TASKS"]), ("MyTasks", ("A",), OWN["DATASET.TASKS"]), ("MyTasks", (), [])]
    assert len({there, *(suite_digest(*each) for each in others)}) == 4


def test_the_suite_that_a_model_learned_is_told_if_it_is_another():
    assert learned_on(OWN, {**OWN, "DATASET.SUBSAMPLE_CLASSES": "new", "DATASET.ROOT": "elsewhere"}) is None
    told = learned_on(OWN, {"DATASET.NAME": "Demo6"})
    assert told == LearnedOn("MyTasks (mug colour)", suite_digest("MyTasks", (), OWN["DATASET.TASKS"]))
