"""Where the page is served."""

import socket

import pytest

from dassl.app import server
from dassl.utils.errors import UserError


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_only_another_host_is_warned_of(monkeypatch, caplog, capsys, host, warned):
    made = []
    monkeypatch.setattr(server, "find_spec", lambda name: True)
    monkeypatch.setattr(server, "application", lambda runs, folder, *, local: made.append(local))
    monkeypatch.setattr(server, "_run", lambda app, listener: None)
    server.serve(None, host=host, port=0, browser=False)
    assert made == [not warned]
    assert ("anyone who can reach this machine can use the page" in caplog.text) == warned
    assert "http://0.0.0.0" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("box", "box")],
)
def test_the_address_can_be_opened(host, expected):
    assert server.url(host, 7860) == f"http://{expected}:7860"


def test_a_port_in_use_and_an_unknown_host_are_one_line():
    with server.listening("127.0.0.1", 0) as taken:
        number = taken.getsockname()[1]
        said = f"127.0.0.1 port {number} cannot be used: "
        with pytest.raises(UserError, match=said), server.listening("127.0.0.1", number):
            pytest.fail("two on one port")
    with server.listening("127.0.0.1", number) as again:
        assert again.getsockname()[1] == number
    for host in ("no.such.host.invalid", "x" * 70 + ".invalid"):
        with pytest.raises(UserError, match="choose another --port or --host"), server.listening(host, 0):
            pytest.fail("it listens")


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_the_other_loopback_address():
    try:
        with server.listening("::1", 0) as listener:
            assert listener.family == socket.AF_INET6
    except UserError:
        pytest.skip("IPv6 is off here")
