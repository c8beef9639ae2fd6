"""What every optimizer has."""

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """A subclass adds its settings, which belong to the section `learner`. The first line of its docstring is the
    help."""

    kind: ClassVar[str]
