import socket

import pytest


def test_no_test_reaches_another_computer():
    with socket.socket() as probe, pytest.raises(AssertionError, match="would connect to"):
        probe.connect(("192.0.2.1", 80))
    with socket.socket() as probe, pytest.raises(OSError):
        probe.settimeout(1)
        probe.connect(("127.0.0.1", 9))  # Which is let through, and where nobody listens.
