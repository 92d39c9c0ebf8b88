"""What became of a variant: its files and figures, and whether the gate let it in."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgpt.folder.manifest import Variant

from .measure.labels import MIN_AGREEMENT, agreement_of


@dataclass(frozen=True)
class VariantReport:
    """One made and measured variant.

    `variant` is what its manifest entry is, or would be; `installed` whether the folder has it now:
    it does unless it lost more than is allowed, with no leave to.
    """

    name: str
    variant: Variant
    installed: bool

    @property
    def loss(self) -> float:
        """The relative rise of perplexity over fp32, of a classifier that of its labels."""
        return self.variant.quality["loss"]

    @property
    def verdict(self) -> str:
        """One line: the loss, the gate, and what followed."""
        if agreement := agreement_of(self.variant.quality):
            return self._verdict_on_labels(*agreement)
        limit = f"{self.name}: perplexity {self.loss:+.2%}, {{}} the {self.variant.max_loss:.2%}"
        if not self.installed:
            return limit.format("over") + " allowed, so it was not installed"
        if self.variant.loss_accepted:
            return limit.format("over") + " allowed, installed all the same on request"
        return limit.format("within") + " allowed"

    def _verdict_on_labels(self, name: str, share: float) -> str:
        texts = f"{self.variant.quality['texts']:.0f} texts"
        kept = f"R2 is {share:.4f}" if name == "r2" else f"{share:.1%} of labels are the same"
        outcome = "installed" if self.installed else "not installed"
        if self.variant.loss_accepted:
            outcome = "installed all the same on request"
        return (
            f"{self.name}: {kept} on {texts} ({MIN_AGREEMENT:.0%} at least), perplexity of labels "
            f"{self.loss:+.2%} ({self.variant.max_loss:.2%} at most): {outcome}"
        )
