"""HTML of the answers."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dassl.app.markup import answers_html, message_html, preview_html
from dassl.app.runs import RunAnswer, TaskAnswer
from dassl.inference import ClassScore
from dassl.utils.texts import printable


class Seen(HTMLParser):
    """The tags and the texts of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def answer(run, task, names, others=(0, 0.0), refused=""):
    share = 1 / (len(names) + 1)
    classes = tuple(ClassScore(name, share) for name in names)
    return RunAnswer(run, (TaskAnswer(task, classes, others, renamed=False),), refused)


@given(st.text(min_size=1), st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_names_are_text_and_nothing_else(run, task, names):
    seen = Seen(answers_html([answer(run, task, names, refused=task)]))
    assert seen.tags == Seen(answers_html([answer("r", "t", ["c"] * len(names), refused="why")])).tags
    for text in (run, task, *names):
        assert printable(text) in "".join(seen.texts)


@given(st.text(min_size=1))
def test_no_template_is_filled_in(text):
    for html in (message_html([text], wrong=True), answers_html([answer("r", text, [text])])):
        assert "{" not in html
        assert "$" not in html


def test_bars_have_the_width_of_their_probability_and_a_number_for_the_ear():
    html = answers_html([answer("run", "task", ["a", "b", "c"], (2, 0.25))])
    assert html.count('aria-hidden="true"><span style="width:25.00%">') == 3
    assert html.count(">25.0%<") == 3
    assert "2 other classes: 25.0%" in html
    assert "1 other class: 3.0%" in answers_html([answer("run", "task", ["a"], (1, 0.03))])


def test_what_is_not_the_runs_own_is_said():
    task = TaskAnswer("t", (ClassScore("a", 1.0),), (0, 0.0), renamed=True, calibrated=True)
    assert "with your class names, calibrated" in answers_html([RunAnswer("r", (task,))])
    assert "softcpt-quiet" not in answers_html([answer("run", "task", ["a"])])


def test_reasons_and_mistakes_are_said():
    assert "because TaskRes learns" in answers_html([answer("run", "task", ["a"], refused="TaskRes learns")])
    assert 'role="alert"' in message_html(["one", "two"], wrong=True)
    assert 'role="status"' in message_html(["one"], wrong=False)
    assert message_html([], wrong=True) == answers_html([]) == ""


def test_the_preview_is_inside_the_page_and_small():
    html = preview_html(Image.effect_noise((4000, 2000), 90).convert("RGB"), 'a "b".jpg')
    assert 'src="data:image/jpeg;base64,' in html
    assert len(html) < 400_000
    assert 'alt="a &quot;b&quot;.jpg"' in html
    assert "4,000 x 2,000 pixels" in html
    assert 'class="tiny" src="data:image/png;' in preview_html(Image.new("RGB", (8, 8)), "a")
