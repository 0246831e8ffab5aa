"""Print the number of cases of each door, or with a door's name its cases."""

import sys
from collections import Counter

from tests.rubbish.table import all_cases


def main() -> None:
    cases = all_cases()
    for name in sys.argv[1:]:
        print("\n".join(case.title for case in cases if case.door == name))
    if not sys.argv[1:]:
        for door, count in Counter(case.door for case in cases).items():
            print(f"{count:5}  {door}")
        print(f"{len(cases):5}  in all")


if __name__ == "__main__":
    main()
