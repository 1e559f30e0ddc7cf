"""What commands print: lines on standard output, faults on standard error with exit code 1."""

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn


def say(*lines: object) -> None:
    """Print each on a separate line."""
    print(*lines, sep="\n", flush=True)  # noqa: T201  # the one place where commands print


def ok(line: str) -> None:
    """Print what succeeded."""
    say(f"ok  {line}")


def warn(line: str) -> None:
    """Print what works but should be changed."""
    say(f"warning  {line}")


def fail(*faults: str) -> NoReturn:
    """Print each fault on standard error and exit with 1."""
    sys.exit("\n".join(faults))


@contextlib.contextmanager
def failing_on(command: str, *errors: type[Exception], about: str = "") -> Iterator[None]:
    """Turn these errors, and those of Kafka's clients, into one line on standard error and exit code 1.

    Args:
        command: Its name, which the line begins with.
        errors: Those whose message says what to do.
        about: What the command was given, for their line.
    """
    import aiokafka.errors  # late, both: slow to import, and --help needs neither
    import kafka.errors

    try:
        yield
    except errors as error:
        fail(f"{command}: {f'{about}: ' if about else ''}{error}")
    except (kafka.errors.KafkaError, aiokafka.errors.KafkaError) as error:
        fail(f"{command}: Kafka: {error}: try 'driftline check --connect'")
