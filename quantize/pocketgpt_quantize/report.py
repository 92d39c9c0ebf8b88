"""What became of a variant: its files and figures, and whether the gate let it in."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgpt.folder.manifest import Variant


@dataclass(frozen=True)
class VariantReport:
    """One made and measured variant.

    `variant` is what its manifest entry is, or would be; `installed` whether the folder has it now:
    it does unless it lost more than `variant.max_loss`, with no leave to.
    """

    name: str
    variant: Variant
    installed: bool

    @property
    def loss(self) -> float:
        """The relative rise of perplexity over fp32."""
        return self.variant.quality["loss"]

    @property
    def verdict(self) -> str:
        """One line: the loss, the gate, and what followed."""
        limit = f"{self.name}: perplexity {self.loss:+.2%}, {{}} the {self.variant.max_loss:.2%}"
        if not self.installed:
            return limit.format("over") + " allowed, so it was not installed"
        if self.variant.loss_accepted:
            return limit.format("over") + " allowed, installed all the same on request"
        return limit.format("within") + " allowed"
