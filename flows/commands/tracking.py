"""The command about MLflow: track."""

from __future__ import annotations

from flows.commands.base import Home, command, console, runtime


@command("Keep house", "tlm track", "MLFLOW_TRACKING_URI=http://127.0.0.1:5000 tlm track")
def track(home: Home = None) -> None:
    """Have MLflow show every artifact: complete what is unfinished, make again from the records what is not there."""
    from flows.tracking import track_in_terminal

    track_in_terminal(runtime(home=home), console)
