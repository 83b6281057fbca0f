"""The examples in contrib/ work: the Node.js caller against a real server, the systemd unit in systemd's own eyes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from serving_live import live, until

CONTRIB = Path(__file__).parent.parent / "contrib"


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")
def test_the_node_caller(tmp_path):
    def call(*args):
        done = subprocess.run(["node", str(CONTRIB / "scion-client.mjs"), *args], capture_output=True, text=True, timeout=60,
                              env=environment)
        return done.returncode, done.stdout, done.stderr

    with live(tmp_path, api_key="k" * 16, deadline_ms=50) as server:
        environment = os.environ | {"SCION_URL": server.url, "SCION_API_KEY": "k" * 16}
        until(server.sidecar.is_ready)
        assert json.loads(call("classify", "where is Fen?")[1])["status"] == "ok"
        links = json.loads(call("arbitrate", "moved to Ghent", "Moved to Ghent!", "has a dog")[1])["links"]
        assert links[0]["id"] == "m0" and links[0]["relation"] == "same"
        server.model.seconds = 0.3  # longer than the deadline: the caller waits for the late answer
        late = json.loads(call("memorize", "her name is Fen")[1])
        assert late["status"] == "ok" and late["result_id"]
        assert call("nothing")[0] == 2
        environment = os.environ | {"SCION_URL": server.url, "SCION_API_KEY": "x"}
        code, out, err = call("classify", "x")
        assert code != 0 and "401" in err and not out


def test_the_systemd_unit_says_all_that_other_machines_need():
    """The unit lets in this machine alone, so that --host alone would listen in vain."""
    lines = (CONTRIB / "scion-serve.service").read_text().splitlines()
    told = "\n".join(line for line in lines if line.startswith("#"))
    assert {"IPAddressDeny=any", "IPAddressAllow=localhost"} <= set(lines)
    assert all(part in told for part in ("--host 0.0.0.0", "--api-key-file", "LoadCredential=", "IPAddressAllow=localhost "))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_systemd_unit(tmp_path):
    """The program's path is exchanged for one that exists here; everything else is checked as it is."""
    unit = (CONTRIB / "scion-serve.service").read_text()
    assert "ExecStart=/opt/scion/bin/scion serve " in unit
    file = tmp_path / "scion-serve.service"
    file.write_text(unit.replace("/opt/scion/bin/scion", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 and "scion-serve" not in done.stderr, done.stderr
