"""The command line's handling of signals; what commands do is in the end-to-end tests."""

import signal

import pytest

from fedsim.cli import _app as cli


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored_and_others_interrupt(number):
    before = signal.getsignal(number)
    try:
        for handler, expected in ((signal.SIG_IGN, signal.SIG_IGN), (signal.SIG_DFL, signal.default_int_handler)):
            signal.signal(number, handler)
            with cli.errors():
                assert signal.getsignal(number) == expected
    finally:
        signal.signal(number, before)
