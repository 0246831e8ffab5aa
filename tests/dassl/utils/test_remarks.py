"""Warnings of the log that results.json repeats."""

import logging

from dassl.utils.remarks import collect_warnings


def test_warnings_of_our_rooms_are_kept_once_and_in_order():
    with collect_warnings() as texts:
        logging.getLogger("clip.text").warning("b %d", 1)
        logging.getLogger("dassl.data").warning("a")
        logging.getLogger("clip.text").warning("b 1")
        logging.getLogger("dassl.data").info("no warning")
        logging.getLogger("PIL").warning("of somebody else")
    logging.getLogger("dassl").warning("too late")
    assert list(texts) == ["b 1", "a"]


def test_a_warning_of_a_run_is_in_its_result(lab):
    result = lab.run(DATASET__NUM_SHOTS=9)  # more than the toy classes have
    (text,) = [each for each in result.warnings if "fewer than 9 training images" in each]
    assert f"warning: {text}" in lab.log()
    assert lab.run("enough").warnings == ()
