"""The tests. None of them waits for a network: what a Hub would answer is played by the tests themselves."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
