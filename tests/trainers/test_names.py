"""Names that CLIP cannot tell apart, and names that do not fit."""

import pytest

import clip
from clip.text import prompt_layout
from dassl.data import Task
from dassl.utils.errors import UserError
from trainers._names import check_names, explain_too_long

PLACES = {"don't": "t.csv, line 2", "don\u2019t": "t.csv, line 7"}


def refused(*tasks):
    with pytest.raises(UserError) as caught:
        check_names(tasks)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_of_an_own_task_are_refused():
    message = refused(Task("sign", tuple(PLACES), places=PLACES))
    assert message.startswith("task 'sign': class names")
    assert "(t.csv, line 2)" in message and "(t.csv, line 7)" in message
    assert message.endswith("rename one with classes: {LABEL: CLASS NAME}")
    message = refused(Task("sign", ("&nbsp;", "x"), places={"x": "y"}))
    assert "class '&nbsp;' has no text that CLIP reads" in message


def test_classes_of_a_registered_data_set_are_a_warning(caplog):
    check_names([Task("sign", tuple(PLACES)), Task("other", ("a", "b"))])
    (message,) = caplog.messages
    assert message.startswith("task 'sign': class names") and "cannot tell them apart" in message


def test_names_of_tasks(caplog):
    one, other = Task("a & b", ("x", "y")), Task("a &amp; b", ("x", "y"))
    check_names([one, other])
    assert "task names 'a & b' and 'a &amp; b' are the same to CLIP" in caplog.text
    message = refused(one, Task(other.name, other.classnames, places={"x": "f"}))
    assert message.endswith("rename one with name:")


def test_the_same_names_in_two_tasks_are_ordinary(caplog):
    check_names([Task("one", ("ok", "bad"), places={"ok": "f"}), Task("two", ("ok", "bad"), places={"ok": "g"})])
    assert not caplog.messages


@pytest.mark.parametrize("own", [True, False])
def test_a_class_name_that_does_not_fit(own):
    long = "very_" * 80 + "good"
    task = Task("mug", ("good", long), places={long: "t.csv, line 9"} if own else {})
    for encode in (clip.tokenize, lambda names: prompt_layout(names, n_ctx=4)):
        with pytest.raises(clip.TooLongError) as caught:
            encode([name.replace("_", " ") + "." for name in task.classnames])
        message = str(explain_too_long(caught.value, [Task("x", ("y",)), task]))
        assert message.startswith("task 'mug': class 'very_very") and "but only 77 fit; " in message
        assert ("(t.csv, line 9)" in message and "classes: {LABEL: SHORTER NAME}" in message) == own


def test_a_task_name_that_does_not_fit():
    task = Task("very " * 80 + "long", ("very", "long"))
    with pytest.raises(clip.TooLongError) as caught:
        prompt_layout([task.name], n_ctx=4)
    assert "give the task a shorter name with name:" in str(explain_too_long(caught.value, [task]))
