"""The number that the value of a label stands for, by the task of the model. Pure."""

from typing import Any

from services.runtime.declaration import ModelDeclaration
from streams import codec


class LabelValues:
    """Turns the values of one model's label topic into numbers; a value without a number is refused."""

    def __init__(self, declaration: ModelDeclaration) -> None:
        """Read the classes and the bound of the positive class from the declaration."""
        self._positive_above = declaration.label.positive_above
        self._class_numbers = {name: float(number) for number, name in enumerate(declaration.classes)}

    def number(self, value: Any) -> float:
        """Return 0 or 1 (binary), the index of the class (multiclass), or the value itself (regression).

        Raises:
            InvalidRecordError: The value is null, not a number, too large, or not one of the classes. A null
                is never a class, and never 0.
        """
        if value is None:
            raise codec.InvalidRecordError("the label's value is null")
        if self._class_numbers:
            return self._class_number(value)
        if not isinstance(value, int | float):  # a bool is an int
            raise codec.InvalidRecordError(f"the label's value is {value!r}, which is not a number")
        if not abs(value) <= codec.MAGNITUDE_MAX:  # nor is NaN
            raise codec.InvalidRecordError(
                f"the label's value is {value!r}; its absolute value must be at most {codec.MAGNITUDE_MAX:g}"
            )
        return float(value) if self._positive_above is None else float(value > self._positive_above)

    def _class_number(self, value: Any) -> float:
        number = self._class_numbers.get(str(value))
        if number is None:
            raise codec.InvalidRecordError(
                f"the label's value is {value!r}, which is not one of the declared classes"
            )
        return number


def absent_label(declaration: ModelDeclaration) -> float | None:
    """Return the number that ``label.absent`` declares for a request without a label; None if it does not."""
    absent = declaration.label.absent
    return None if absent is None else LabelValues(declaration).number(absent)
