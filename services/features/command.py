"""``driftline features``: the process, and what can be asked of it."""

from cyclopts import App

app = App(name="features")
app.command("services.features.replay:replay", name="replay", help="Build views anew from their sources.")


@app.default
def features() -> None:
    """Run the process until SIGINT or SIGTERM."""
    from services.features.process import run

    run()
