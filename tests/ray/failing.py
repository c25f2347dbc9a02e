"""Methods that fail, for the tests of sweeps."""

from pathlib import Path

from fedsim.methods.deltamask import DeltaMask, DeltaMaskSettings


def _server(method, fails):
    class Server(DeltaMask.Server):
        def finish_round(self):
            if self.params.name.endswith(method) and fails(self.experiment):
                raise ZeroDivisionError("always")
            super().finish_round()

    return Server


def _first(config):
    marker = Path(config.output) / "failed-once"
    first = not marker.exists()
    marker.touch()
    return first


class Fails(DeltaMask):
    """Always fails."""

    Params = DeltaMaskSettings
    Server = _server("Fails", lambda config: True)


class FailsOnce(DeltaMask):
    """Fails in its first round, and not again."""

    Params = DeltaMaskSettings
    Server = _server("FailsOnce", _first)
