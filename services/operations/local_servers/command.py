"""``driftline up``: the servers alone, until Ctrl-C."""

import sys
import time
from typing import TYPE_CHECKING

from services.operations.local_servers.cluster import Embedded, FolderInUseError
from services.operations.local_servers.jars import JarsError
from services.operations.local_servers.supervisor import SupervisorError, stoppable
from services.runtime.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

CHECK_SECONDS = 0.5


def up() -> None:
    """Run Kafka, Valkey and MLflow on this machine, without Docker, until Ctrl-C.

    Their data stays in the home folder (DRIFTLINE_HOME), so that the next start continues with it.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    servers = Embedded(
        Settings(), appendonly=True, say=lambda text: console.print(f"[yellow]note:[/] {text}")
    )
    try:
        with stoppable():
            console.print(f"starting Kafka, Valkey and MLflow; their data is in {Settings().home.resolve()}")
            started = time.monotonic()
            with servers:
                _print_banner(console, servers, time.monotonic() - started)
                while True:
                    time.sleep(CHECK_SECONDS)
                    servers.check()
    except KeyboardInterrupt:
        console.print("stopped")
    except (SupervisorError, FolderInUseError, JarsError) as error:
        sys.exit(f"driftline up: {error}")


def _print_banner(console: "Console", servers: Embedded, seconds: float) -> None:
    from rich.panel import Panel
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, address in (
        ("Kafka", servers.addresses.broker),
        ("Valkey", servers.addresses.redis_url),
        ("MLflow", servers.addresses.mlflow_uri),
    ):
        table.add_row(f"[bold]{name}[/]", address)
    console.print(
        Panel(table, title=f"ready after {seconds:.1f} s", subtitle="use CTRL+C to close", expand=False)
    )
    for variable, value in servers.environment.items():
        console.print(f"export {variable}={value}", markup=False)
