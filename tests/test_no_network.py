"""Nothing leaves this machine unless asked: every test is refused it, and import and a whole run try nothing."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import pytest

IMPORTS = """
import sys
sys.addaudithook(lambda event, arguments: sys.exit(event) if event.startswith("socket.") else None)
import slim, slim.cli.main
[getattr(slim, name) for name in slim.__all__]
"""


@pytest.mark.parametrize("host", ["pypi.org", "192.0.2.1", "2001:db8::1"])
def test_a_call_to_another_machine_is_refused_and_noticed(host: str, calls_to_other_machines: list[str]) -> None:
    with contextlib.suppress(OSError):
        socket.create_connection((host, 443), timeout=1)
    assert [call.partition(" ")[2] for call in calls_to_other_machines] == [host]
    calls_to_other_machines.clear()


def test_import_of_every_public_name_opens_no_socket() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
