"""Every bad input ends in a clear line or in a right result: no stack trace, no hang, no code that is run."""

import pytest

from tests.rubbish.case import Bench, Case, try_case
from tests.rubbish.table import all_cases

LEAST = 600


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.door}-{case.title}"[:90])
def test_a_bad_input_does_no_harm(case: Case, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    try_case(case, bench, capsys.readouterr)


def test_the_table_is_large_and_no_case_stands_in_it_twice() -> None:
    titles = [(case.door, case.title) for case in all_cases()]
    assert len(titles) >= LEAST
    assert len(set(titles)) == len(titles), [each for each in titles if titles.count(each) > 1][:3]
