"""Bad inputs by the door through which they come, one table of cases, and one test that tries them all.

``python -m tests.rubbish`` prints how many there are. A door is a module of this package with a list ``CASES``.
"""
