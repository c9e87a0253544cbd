"""Write a method, and check that it fulfils the contract of all methods."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mixunlearn import SOURCES, Architecture, Method, Recipe, ReferenceStore, Store, make_splits
from mixunlearn.testing import check_method


@dataclass(kw_only=True)
class Balanced(Method):
    """Minimise `CE(D_r) − weight·CE(D_f)`."""

    needs_labels = True
    weight: float = 0.2

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on a batch of pairs."""
        forget = self.cross_entropy(self.context.forget, forget_B)
        loss = self.cross_entropy(self.context.retain, retain_B) - self.weight * forget
        self.step(loss)
        return {"loss": loss.detach(), "loss_forget": forget.detach()}


dataset = SOURCES["digits"]()
references = ReferenceStore(
    store=Store(Path("runs/store")),
    dataset=dataset,
    splits=make_splits(dataset, {"kind": "class"}, limit={"train": 500}),
    architecture=Architecture.of(dataset, "cnn", width=8),
    recipe=Recipe(epochs=6, lr=3e-3),
    references=1,
)
references.fill()
check_method(Balanced, references.problem(with_labels=True), {"lr": 1e-3, "weight": 0.5})
print("Balanced fulfils the contract of all methods")
