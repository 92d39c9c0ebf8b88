"""Stop strings in a text that comes in pieces: found wherever they begin, never shown in part."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Holds back what may be the beginning of a stop string, and cuts the text at a whole one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for `stops`, none of them empty."""
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Take more text; return what is final. Once `found`, nothing comes any more."""
        if not self._stops:
            return text
        if self.found or not text:
            return ""
        self._held += text
        ends = [(self._held.find(stop) + len(stop), len(stop)) for stop in self._stops]
        whole = [(end, -length) for end, length in ends if end >= length]
        if whole:  # of several, the one that was whole first; of those, the longest
            end, length = min(whole)
            final, self._held, self.found = self._held[: end + length], "", True
            return final
        return self._release(len(self._held) - self._possible_begin())

    def finish(self) -> str:
        """Return what was held back and became no stop string."""
        return self._release(len(self._held))

    def _release(self, count: int) -> str:
        final, self._held = self._held[:count], self._held[count:]
        return final

    def _possible_begin(self) -> int:
        """Return the length of the longest end of the held text that begins a stop string."""
        longest = min(len(self._held), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
