"""What the verbs import for a missing extra; its home is the library."""

from ..extras import needs_extra

__all__ = ["needs_extra"]
