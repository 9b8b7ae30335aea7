"""Environments: what a file may say, and errors that name the key and the line."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from bikecast.errors import InputError, UnknownName
from bikecast.ops.commands import proxy_files
from bikecast.ops.environment import Environment, Section, load_environment, parse_environment

EXAMPLE = Path(__file__).parents[2] / "deploy" / "environments" / "example.toml"
SMALL = """\
[registry]
image = "ghcr.io/org/bikecast"

[hosts]
addresses = ["deploy@a.example.com"]
key = {env = "KEY"}
known_hosts = "a.example.com ssh-ed25519 AAAA"

[service]
system = "jc"
database_url = {env = "URL"}
"""
# pragma: allowlist nextline secret: made up
ENVIRON = {"KEY": "the private key", "URL": "postgresql://u:secret@db/b"}


@pytest.fixture
def load(tmp_path):
    """Load a text as the environment `staging`."""

    def do(text, environ=ENVIRON):
        (tmp_path / "staging.toml").write_text(text)
        return load_environment(tmp_path, "staging", environ)

    return do


def test_what_is_left_out_has_the_documented_defaults(load):
    """A small file is enough; secrets come from the environment."""
    found = load(SMALL)
    assert found.name == "staging" and not found.protected
    assert str(found.hosts.addresses[0]) == "deploy@a.example.com:22"
    assert found.hosts.key.get_secret_value() == "the private key"
    assert found.release.steps == (5, 25, 50, 100) and found.proxy.port == 8000


def test_balancers_are_addresses_and_networks(load):
    """Of both kinds; the file of nginx has each."""
    listed = '[proxy]\nbalancers = ["10.0.0.1", "10.1.0.0/16", "2001:db8::/64"]\n[service]'
    found = load(SMALL.replace("[service]", listed))
    assert found.masked()["proxy"]["balancers"] == ["10.0.0.1/32", "10.1.0.0/16", "2001:db8::/64"]
    (nginx,) = proxy_files(found, "i7").values()
    assert nginx.count("set_real_ip_from ") == 3 and "set_real_ip_from 10.1.0.0/16;" in nginx


@pytest.mark.parametrize("listed", ['"fe80::1%eth0"', "5", "true", '"nobody"'])
def test_what_nginx_would_refuse_is_no_balancer(load, listed):
    """It would not start."""
    with pytest.raises(InputError, match="balancers"):
        load(SMALL.replace("[service]", f"[proxy]\nbalancers = [{listed}]\n[service]"))


def test_secrets_are_masked_where_people_read(load):
    """Neither the printed form nor the masked document holds one."""
    found = load(SMALL)
    shown = json.dumps(found.masked()) + repr(found) + str(found)
    assert "secret" not in shown and "the private key" not in shown
    assert found.masked()["hosts"]["addresses"] == ["deploy@a.example.com:22"]
    assert found.masked()["service"]["system"] == "jc"


def test_values_come_from_files_and_commands(load, tmp_path):
    """A file as it is, a command without its last line end; no shell reads the command."""
    (tmp_path / "key").write_text("from a file\n")
    text = SMALL.replace('{env = "KEY"}', f'{{file = "{tmp_path}/key"}}')
    text = text.replace('{env = "URL"}', '{command = "echo a;b $HOME"}')
    found = load(text)
    assert found.hosts.key.get_secret_value() == "from a file\n"
    assert found.service.database_url.get_secret_value() == "a;b $HOME"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('system = "jc"', 'sistem = "jc"', "line 10: service.sistem: there is no such key"),
        ('system = "jc"\n', "", "line 9: service.system: field required"),
        ("[service]", "[servise]", "line 9: servise: there is no such key"),
        ('"deploy@a.example.com"', '"a.example.com"', "line 5: hosts.addresses.0: .*no address"),
        (
            '["deploy@a.example.com"]',
            '["d@a", "e@a:22"]',
            "line 5: hosts.addresses: the same host stands there twice",
        ),
        ('"ghcr.io/org/bikecast"', '"bike cast"', "line 2: registry.image"),
        ('{env = "URL"}', '{env = "NONE"}', "line 11: service.database_url: env 'NONE': is not"),
        ('{env = "URL"}', '{file = "/none"}', "line 11: .*file '/none': No such file"),
        ('{env = "URL"}', '{command = "false"}', "line 11: .*command 'false': exit code 1"),
        ('{env = "URL"}', '{command = "no-such-program"}', "line 11: .*no-such-program"),
        ('system = "jc"', 'system = "jc', r"is no TOML: .*line 10"),
        ("[service]", "[release]\nsteps = [5, 3, 100]\n[service]", "line 10: .*must rise"),
        ("[service]", "[release]\nsteps = [5, 50]\n[service]", "line 10: .*end at 100"),
        ("[service]", '[release]\nprevious = "cold"\n[service]', "line 10: release.previous"),
        ("[service]", "[proxy]\nport = 70000\n[service]", "line 10: proxy.port"),
        ("[service]", '[proxy]\nbalancers = ["elb"]\n[service]', "line 10: proxy.balancers.0"),
        ("[registry]", 'name = "x"\n[registry]', "line 1: name: there is no such key"),
        ("[registry]", 'stage = "x"\n[registry]', "line 1: stage: there is no such key"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_key(load, old, new, says):
    """One line, and no value that might be a secret."""
    with pytest.raises(InputError, match=says) as error:
        load(SMALL.replace(old, new))
    assert "staging.toml" in str(error.value) and "secret" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A folder, a link in a circle, a byte that is no text: exit code 2."""
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "circle.toml").symlink_to("circle.toml")
    (tmp_path / "latin.toml").write_bytes("# für\n# g\n".encode() + "# für\n".encode("latin-1"))
    for name, says in (
        ("folder", "folder.toml cannot be read: Is a directory; "),
        ("circle", "circle.toml cannot be read: Too many levels of symbolic links; "),
        ("latin", "latin.toml, line 3: this is no UTF-8; mend that line"),
    ):
        with pytest.raises(InputError, match=says) as error:
            load_environment(tmp_path, name, {})
        assert error.value.exit_code == 2


def test_an_unknown_environment_is_named_with_those_there_are(load, tmp_path):
    """The next step is to copy the example."""
    load(SMALL)
    with pytest.raises(UnknownName, match=r"no environment 'prod' .*known: staging.*example.toml"):
        load_environment(tmp_path, "prod", {})


def keys(section: type[BaseModel]):
    """Every key of the schema, with those of its tables."""
    for name, field in section.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation)


def test_the_example_explains_every_key_and_is_valid():
    """It is the documentation of the schema."""
    text = EXAMPLE.read_text()
    sources = dict.fromkeys(("env", "file", "command"), lambda of: "x")
    found = parse_environment(text, "example.toml", "example", sources)
    assert [str(a) for a in found.hosts.addresses][1] == "deploy@b.example.com:22"
    for key in set(keys(Environment)) - {"name"}:
        assert f"{key} " in text or f"[{key}]" in text, key
    small = parse_environment(SMALL, "small", "example", sources)
    assert found.release == small.release and found.proxy == small.proxy
