"""Passwords and tokens of the services of one machine: made once, and who has which."""

import re
import stat
from pathlib import Path

import pytest
import yaml

from bikecast.errors import InputError
from bikecast.ops import services
from bikecast.ops.services import Shell

TOP = Path(__file__).parents[2]


def test_secrets_are_made_once_and_only_their_owner_gets_to_them(tmp_path):
    """Other users cannot enter the folder; containers of any user read what is mounted."""
    folder = tmp_path / "secrets"
    assert len(services.missing_secrets(folder)) == 3
    services.make_secrets(folder)
    assert services.missing_secrets(folder) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    texts = {p.name: p.read_text() for p in folder.iterdir()}
    assert texts.pop(".gitignore") == "*\n"  # a commit of everything takes none along
    assert len(set(texts.values())) == 3 and len(texts["postgres_password"]) > 40
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o444 for name in texts)


def test_secrets_that_lack_one_are_not_made_anew(tmp_path):
    """New ones would not fit the database; the message names what is missing."""
    services.make_secrets(tmp_path / "secrets")
    (tmp_path / "secrets" / "database_url").unlink()
    with pytest.raises(InputError, match="lacks database_url; put them back"):
        services.missing_secrets(tmp_path / "secrets")


def test_secrets_never_replace_a_folder_with_something_in_it(tmp_path):
    """What is there stays, and nothing is left beside it."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "other").write_text("kept")
    with pytest.raises(InputError, match="no secrets can be made"):
        services.make_secrets(tmp_path / "secrets")
    assert [p.name for p in tmp_path.iterdir()] == ["secrets"]


def test_an_admin_token_is_made_where_there_is_none(tmp_path, capsys):
    """Also beside the passwords of an older installation; one that is there stays."""
    folder = tmp_path / "secrets"
    services.ensure_admin_token(Shell(dry=True), folder)
    assert not folder.exists() and "# make an admin token" in capsys.readouterr().out
    services.make_secrets(folder)
    (folder / ".admin_token").write_text("cut off")
    services.ensure_admin_token(Shell(), folder)
    path = folder / "admin_token"
    made = path.read_text()
    assert re.fullmatch("[!-~]{16,}", made) and stat.S_IMODE(path.stat().st_mode) == 0o444
    assert made not in capsys.readouterr().err and len(list(folder.iterdir())) == 5
    services.ensure_admin_token(Shell(), folder)
    assert path.read_text() == made and services.missing_secrets(folder) == []
    with pytest.raises(InputError, match="no admin token can be made in .*none.*16 characters"):
        services.ensure_admin_token(Shell(), tmp_path / "none")


def test_the_service_alone_has_the_admin_token():
    """As a file: neither its value nor that of another secret stands in the compose file."""
    found = yaml.safe_load((TOP / "deploy" / "compose.yaml").read_text())
    names = {*services.new_secrets(str), services.ADMIN_TOKEN}
    assert set(found["secrets"]) == names
    assert all(list(of) == ["file"] for of in found["secrets"].values())
    of_services = {name: of.get("secrets", []) for name, of in found["services"].items()}
    assert [n for n, of in of_services.items() if services.ADMIN_TOKEN in of] == ["api"]
    api = found["services"]["api"]["environment"]
    assert api["BIKECAST_ADMIN_TOKEN_FILE"] == f"/run/secrets/{services.ADMIN_TOKEN}"
