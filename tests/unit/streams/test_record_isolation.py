"""Outages are waited for; of records that fail otherwise, exactly those at fault are isolated."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Self

import hypothesis
import pytest
from hypothesis import strategies as st

from streams.defects import ATTEMPTS_MAX
from streams.outages import OutageError
from streams.record_isolation import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, FailedAttempt, RecordIsolation


@dataclasses.dataclass(frozen=True)
class Numbers:
    values: Sequence[int]
    reason: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def halves(self) -> tuple[Self, Self]:
        middle = len(self) // 2
        return type(self)(self.values[:middle]), type(self)(self.values[middle:])

    def as_defect(self, reason: str) -> Self:
        assert len(self) == 1
        return type(self)(self.values, reason)


@dataclasses.dataclass
class Account:
    """What was attempted and done, and how long was waited."""

    fault_of: Callable[[Numbers], BaseException | None]
    attempts: int = 0
    done: list[int] = dataclasses.field(default_factory=list)
    isolated: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    failed: list[FailedAttempt[Numbers]] = dataclasses.field(default_factory=list)
    pauses: list[float] = dataclasses.field(default_factory=list)

    async def attempt(self, numbers: Numbers) -> None:
        self.attempts += 1
        if error := self.fault_of(numbers):
            raise error
        self.done += numbers.values

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def complete(self, count: int) -> RecordIsolation[Numbers]:
        isolation = RecordIsolation(
            self.attempt,
            on_failure=self.failed.append,
            on_isolated=lambda work, reason: self.isolated.append((work.values[0], reason)),
            sleep=self.sleep,
            clock=lambda: float(len(self.pauses)),
        )
        asyncio.run(isolation.complete(Numbers(range(count))))
        return isolation


def poisoned(*poison: int) -> Account:
    def fault_of(numbers: Numbers) -> Exception | None:
        bad = set(poison) & set(numbers.values) if not numbers.reason else set()
        return ValueError(f"cannot take {min(bad)}") if bad else None

    return Account(fault_of)


class Panic(BaseException):
    """As a library in Rust raises."""


def failing(*errors: Exception) -> Account:
    left = list(errors)
    return Account(lambda _numbers: left.pop(0) if left else None)


def test_success_takes_one_attempt() -> None:
    account = poisoned()
    isolation = account.complete(5)
    assert (account.attempts, account.done, account.pauses) == (1, [0, 1, 2, 3, 4], [])
    assert isolation.failed is None


@hypothesis.given(st.integers(1, 300), st.data())
@hypothesis.settings(deadline=None)
def test_exactly_the_records_at_fault_are_isolated_in_order(count: int, data: st.DataObject) -> None:
    poison = sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=8)))
    account = poisoned(*poison)
    account.complete(count)
    assert account.done == list(range(count))
    assert [number for number, _ in account.isolated] == poison
    assert all(f"cannot take {number}" in reason for number, reason in account.isolated)
    bound = ATTEMPTS_MAX + len(poison) * (2 * math.ceil(math.log2(max(count, 2))) + 1) if poison else 1
    assert account.attempts <= bound
    assert len(account.pauses) <= ATTEMPTS_MAX - 1


def test_error_that_does_not_repeat_isolates_nothing() -> None:
    account = failing(*[KeyError("a race")] * (ATTEMPTS_MAX - 1))
    account.complete(4)
    assert (account.done, account.isolated) == ([0, 1, 2, 3], [])


def test_outage_is_waited_for_and_isolates_nothing() -> None:
    account = failing(*[OutageError("no Redis")] * 50)
    account.complete(4)
    assert (account.attempts, account.done, account.isolated) == (51, [0, 1, 2, 3], [])
    assert len(account.pauses) == 50
    assert account.pauses[0] <= 2 * RETRY_SECONDS_MIN
    assert RETRY_SECONDS_MAX / 2 <= account.pauses[-1] <= RETRY_SECONDS_MAX
    assert [failed.count for failed in account.failed] == list(range(1, 51))
    assert {failed.since_seconds for failed in account.failed} == {0.0}


def test_outage_between_the_attempts_of_an_isolation_is_waited_for() -> None:
    attempts = 0

    def fault_of(numbers: Numbers) -> Exception | None:
        nonlocal attempts
        attempts += 1
        if attempts % 2:
            return ConnectionError("gone")
        return ValueError("bad") if 5 in numbers.values and not numbers.reason else None

    account = Account(fault_of)
    account.complete(8)
    assert account.done == list(range(8))
    assert [number for number, _ in account.isolated] == [5]


def test_no_record_is_at_fault_if_one_fails_even_as_a_defect() -> None:
    """It is waited for, and the record is then tried as it is: it becomes no dead letter."""
    account = failing(*[KeyError("our setup")] * 12)
    account.complete(1)
    assert (account.done, account.isolated) == ([0], [])
    assert sum(failed.is_stuck for failed in account.failed) >= 4


def test_failures_are_reported_with_what_follows() -> None:
    account = poisoned(1)
    account.complete(2)
    sizes = [(len(failed.work), failed.pause_seconds > 0) for failed in account.failed]
    assert sizes == [(2, True), (2, True), (2, False), (1, False)]


def test_work_that_waits_for_something_cancelled_is_attempted_again() -> None:
    """The lane would otherwise end without a word."""
    account = failing(asyncio.CancelledError())  # type: ignore[arg-type]  # no Exception, as in asyncio
    account.complete(2)
    assert account.done == [0, 1]
    assert isinstance(account.failed[0].error, OutageError)


def test_cancellation_ends_the_attempts() -> None:
    async def hang(_numbers: Numbers) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        async with asyncio.timeout(0.01):
            await RecordIsolation(hang).complete(Numbers([1, 2]))

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_a_panic_of_a_library_is_a_defect_of_its_record() -> None:
    """It is no `Exception`; unnoticed, it would end the task, and nothing of the partition would follow."""

    def fault_of(numbers: Numbers) -> BaseException | None:
        return Panic("index out of bounds") if 3 in numbers.values and not numbers.reason else None

    account = Account(fault_of)
    account.complete(5)
    ((number, reason),) = account.isolated
    assert (number, reason.split(" at ")[0]) == (3, "defect: PanicError: Panic: index out of bounds")
    assert account.done == [0, 1, 2, 3, 4]
