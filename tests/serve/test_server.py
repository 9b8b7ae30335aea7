"""Taking the address; the running server is tested in tests/integration/test_serve.py."""

import gc
import socket
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from fakes import FakeSource, published

from bikecast.config import Settings
from bikecast.errors import InputError, InUse
from bikecast.serve.limits import Limiter
from bikecast.serve.server import TURN_SECONDS, _load, listen, serve


def never() -> NoReturn:
    """Stands for a source that must not be asked."""
    raise AssertionError("asked for a source")


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    """Exit code 2, before anything is forked."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(InUse) as caught:
            serve(Settings(bind=bind), never)
    assert str(caught.value) == f"{bind} is in use by another process; choose another with --bind"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "bind", ["", "8000", ":8000", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "::1"]
)
def test_what_is_no_address_is_refused(bind: str) -> None:
    """A host and a port are wanted."""
    with pytest.raises(InputError, match="no address.*--bind host:port"):
        listen(bind)


def test_an_address_of_another_machine_is_refused() -> None:
    """192.0.2.0/24 belongs to nobody (RFC 5737)."""
    with pytest.raises(InputError, match="cannot listen on 192.0.2.1:8000"):
        listen("192.0.2.1:8000")


def test_a_host_without_an_address_is_refused() -> None:
    """RFC 2606 keeps .invalid free."""
    with pytest.raises(InputError, match="no host 'nowhere.invalid'"):
        listen("nowhere.invalid:8000")


def test_port_0_takes_a_free_one() -> None:
    """And can be connected to at once."""
    with listen("localhost:0") as listener:
        socket.create_connection(listener.getsockname()[:2]).close()


def test_less_than_one_worker_is_refused() -> None:
    """gunicorn would wait for ever."""
    with pytest.raises(InputError, match="0 workers"):
        serve(Settings(bind="127.0.0.1:0", workers=0), never)


def test_a_unix_socket_is_taken_also_where_a_dead_one_lies(tmp_path: Path) -> None:
    """The owner and its group may connect; a living server's socket is not taken away."""
    bind = f"unix:{tmp_path / 'api.sock'}"
    listen(bind).close()
    with listen(bind):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(tmp_path / "api.sock"))
        assert (tmp_path / "api.sock").stat().st_mode & 0o777 == 0o660
        with pytest.raises(InUse, match="api.sock is in use"):
            listen(bind)
    with pytest.raises(InputError, match="cannot listen on unix:.*No such file"):
        listen(f"unix:{tmp_path}/none/api.sock")


def test_a_worker_keeps_no_request_waiting_for_itself(tmp_path: Path) -> None:
    """Garbage in all its modules would take 0.1 s, a turn of a thread that reckons 5 ms."""
    settings, interval = Settings(data_dir=tmp_path), sys.getswitchinterval()
    try:
        app = _load(settings, FakeSource(published()), Limiter(1))
        assert gc.get_freeze_count() > 100_000 and not any(one is app for one in gc.get_objects())
        assert sys.getswitchinterval() == pytest.approx(TURN_SECONDS)
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval)
