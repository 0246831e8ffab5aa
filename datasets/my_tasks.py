"""Your own tasks, described in a yaml file and not in Python: registers them as data set MyTasks."""

from dassl.data.own.dataset import MyTasks

__all__ = ["MyTasks"]
