"""Where the studio may be served, and to whom."""

import socket
import subprocess
import sys

import pytest

from lora_diffusion import UsageError
from tests.webui.conftest import PASSWORD, WHEN
from webui.serving import require_safe
from webui.studio import Studio


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "studio.example.com"])
def test_an_address_that_others_reach_needs_an_admin_with_a_password(tmp_path, host):
    with pytest.raises(UsageError, match="nobody would have to sign in"):
        require_safe(tmp_path, host)
    studio = Studio(tmp_path)
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    require_safe(tmp_path, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_an_address_of_this_machine_needs_nobody(tmp_path, host):
    require_safe(tmp_path, host)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_server_may_open_more_files_than_its_threads_need():
    code = (
        "import resource; from webui.serving import allow_files; limit = resource.RLIMIT_NOFILE;"
        "resource.setrlimit(limit, (256, resource.getrlimit(limit)[1])); allow_files();"
        "print(*resource.getrlimit(limit))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    soft, hard = map(int, done.stdout.split())
    assert soft == 8192 if hard == -1 else soft == min(8192, hard)


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lora_diffusion", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_refuses_in_one_line_and_opens_no_port(tmp_path):
    done = run("ui", "--host", "0.0.0.0", "--no-open", "--home", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "user add" in done.stderr


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("ui", "--no-open", "--home", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "is taken" in done.stderr


def test_users_are_added_on_the_command_line(tmp_path):
    added = run("user", "add", "ana", "--role", "admin", "--password", PASSWORD, "--home", str(tmp_path))
    assert added.returncode == 0, added.stderr
    assert '"name": "ana"' in run("user", "list", "--json", "--home", str(tmp_path)).stdout
    assert run("user", "add", "ben", "--role", "king", "--password", PASSWORD, "--home", str(tmp_path)).returncode == 2
