"""Kinds of unlearning tasks by name; to add one, write a file here and a line in `TASKS`."""

from collections.abc import Mapping

from mixunlearn.plugins import extended
from mixunlearn.tasks.backdoor import BackdoorTask
from mixunlearn.tasks.base import Measure, Task
from mixunlearn.tasks.class_ import ClassTask
from mixunlearn.tasks.data import DataTask
from mixunlearn.tasks.hard import HardTask
from mixunlearn.tasks.ids import IdsTask
from mixunlearn.tasks.noisy import NoisyTask
from mixunlearn.tasks.random import RandomTask
from mixunlearn.tasks.semi import SemiTask

TASKS: Mapping[str, type[Task]] = extended(
    {
        "class": ClassTask,
        "data": DataTask,
        "random": RandomTask,
        "ids": IdsTask,
        "noisy": NoisyTask,
        "backdoor": BackdoorTask,
        "semi": SemiTask,
        "hard": HardTask,
    },
    "mixunlearn.tasks",
)

__all__ = ["TASKS", "Measure", "Task"]
