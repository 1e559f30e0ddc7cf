"""A worker that owns what a test says, without a group: by default every model."""

from collections.abc import Collection


class MemoryOwnership:
    """Takes the place of `services.runtime.model_ownership.ModelOwnership`."""

    def __init__(self) -> None:
        self.foreign: set[str] = set()
        """Models of other workers."""
        self.calls: list[str] = []
        self._known: set[str] = set()

    def declare(self, names: Collection[str]) -> None:
        self.calls.append("declare")

    def owns(self, model: str) -> bool:
        return model not in self.foreign

    def renew(self) -> bool:
        return self.foreign != self._known

    def release(self) -> None:
        self._known = set(self.foreign)
        self.calls.append("release")

    def partition(self, model: str) -> int:
        return 0

    def require(self, partition: int) -> None:
        self.calls.append("require")
