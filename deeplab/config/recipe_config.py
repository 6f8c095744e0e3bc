"""Config of the recipe: whether settings that are not given are chosen for the data and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config import durations
from deeplab.config.fields import Config, setting


@dataclass(frozen=True)
class RecipeConfig(Config):
    """Recipe: settings that are chosen for the data and the machine."""

    recipe: str = setting(
        "none",
        "How settings that are not given are chosen. auto = from dataset.yml and this machine; what is chosen, and "
        "why, is printed and written to TRAIN_LOGDIR/recipe.yml, which can be edited and used as a config file. none = "
        "the defaults of the research DeepLab.",
        choices=("none", "auto"),
    )
    time_budget: str = setting(
        "",
        "Time for the whole training, such as 30min, 2h or 90s: the number of steps is derived from the measured time "
        "of a few steps (unset: no limit).",
        unit="time",
    )

    def validate(self) -> None:
        self.budget_seconds()

    def budget_seconds(self) -> float:
        """The time for the training in seconds; 0 = no limit.

        Raises:
          UserError: it is not a time.
        """
        return durations.seconds(self.time_budget, "time_budget") if self.time_budget.strip() else 0.0

    def is_on(self) -> bool:
        """Whether anything is chosen."""
        return self.recipe == "auto" or bool(self.budget_seconds())
