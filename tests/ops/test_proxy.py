"""The proxy itself is replaced: a second one beside the first, which then takes its leave."""

import pytest
from deployer import Deployer, Fault
from local_host import PROXY_IMAGE, environment, target

from bikecast.errors import BikecastError, CommandFailed, Refused
from bikecast.ops import commands, proxy
from bikecast.ops.commands import NEXT_PROXY, PROXY
from bikecast.ops.preparing import proxy_instance
from bikecast.ops.proxy import upgrade
from bikecast.ops.release import How, deploy

NEW = environment(("[service]", "[proxy]\nport = 8001\n[service]"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody's connections need time to leave."""
    monkeypatch.setattr(proxy, "LEAVING", 0.0)


def instances(hosts):
    """By its name, the proxy that each host has; no other is left over."""
    assert not any(NEXT_PROXY in h.containers() for h in hosts)
    return [h.state().proxy.labels["bikecast.proxy"] for h in hosts]


def test_a_proxy_with_the_same_settings_is_left_alone(hosts):
    """Not even its files are written."""
    deployer = Deployer(hosts)
    started = hosts[0].containers()[PROXY]["started"]
    upgrade(deployer.site)
    assert deployer.said == ["every proxy has the settings of the environment already"]
    assert hosts[0].containers()[PROXY]["started"] == started


def test_a_proxy_is_replaced_by_one_with_the_new_settings(hosts):
    """On every host; the files of the old one are gone, and so is its word to leave."""
    deployer = Deployer(hosts, NEW)
    old = instances(hosts)
    upgrade(deployer.site)
    wanted = proxy_instance(deployer.site)
    assert instances(hosts) == [wanted] * 2 and wanted not in old
    for host in hosts:
        assert [p.name for p in (host.root / "proxy").iterdir()] == [wanted]
        assert "listen 8001 reuseport" in (host.root / "proxy" / wanted / "nginx.conf").read_text()
        assert list((host.root / "traffic" / "leaving").iterdir()) == []
        assert not (host.root / "lock").exists()
    assert deployer.said[0] == "replacing the proxy on one, two"
    assert deployer.said[-1] == "new proxy on one, two"


IMAGE = environment(("[service]", '[proxy]\nimage = "registry.test/nginx:2"\n[service]'))


def test_the_image_of_the_new_proxy_is_pulled_first_with_the_login(hosts):
    """Which is forgotten again."""
    for host in hosts:
        (host.docker / "registry" / "registry.test").mkdir(exist_ok=True)
        (host.docker / "registry" / IMAGE.proxy.image).write_text("running\n")
    upgrade(Deployer(hosts, IMAGE).site)
    for host in hosts:
        assert host.containers()[PROXY]["image"] == IMAGE.proxy.image
        verbs = [call.split()[0] for call in host.calls()]
        assert "login" in verbs[-30:]
        assert list((host.root.parent / "tmp").iterdir()) == []


def test_a_proxy_whose_image_is_nowhere_leaves_the_old_one(hosts):
    """Before anything was started or announced."""
    old = instances(hosts)
    deployer = Deployer(hosts, IMAGE)
    with pytest.raises(CommandFailed, match="manifest for registry.test/nginx:2 not found"):
        upgrade(deployer.site)
    assert instances(hosts) == old
    assert [p.name for p in (hosts[0].root / "proxy").iterdir()] == old[:1]


def test_a_proxy_on_a_port_of_its_own_is_tried_before_the_old_one_leaves(hosts):
    """What riders have is not given up for one that does not answer."""
    old = instances(hosts)
    for host in hosts:
        host.change("bikecast-green", behaviour="failing")
    with pytest.raises(Refused, match="POST /predict answers 500"):
        upgrade(Deployer(hosts, NEW).site)
    assert instances(hosts) == old and hosts[0].ports() == {8000}


def test_the_old_proxy_announces_that_it_leaves_before_it_is_stopped(hosts):
    """By a file of its own, so that the new one does not leave too."""
    old, calls = instances(hosts)[0], []

    def see(command):
        calls.append([p.name for p in (hosts[0].root / "traffic" / "leaving").iterdir()])

    hosts[0].before = see
    upgrade(Deployer(hosts, NEW).site)
    assert [old] in calls and calls[-1] == []


def test_a_proxy_that_does_not_come_up_leaves_the_old_one(hosts):
    """On all hosts, also where it came up."""
    old = instances(hosts)
    (hosts[1].docker / "images" / PROXY_IMAGE).write_text("crashing\n")
    with pytest.raises(Refused, match="the new proxy does not come up on two; .*the old one goes"):
        upgrade(Deployer(hosts, NEW).site)
    assert instances(hosts) == old
    assert all(not (h.root / "lock").exists() for h in hosts)


@pytest.mark.integration
@pytest.mark.parametrize(
    "kind",
    [pytest.param("fails", marks=pytest.mark.full), pytest.param("lost", marks=pytest.mark.full)]
    + ["killed"],
)
@pytest.mark.parametrize("step", range(14))
def test_an_upgrade_cut_off_at_any_step_is_finished_by_the_next(hosts, kind, step):
    """There is a proxy on every host all the while, and one alone in the end."""
    deployer = Deployer(hosts, NEW, faults=(Fault(kind, "two", step),))
    try:
        upgrade(deployer.site)
    except BikecastError:
        pass
    assert deployer.happened or step > 11
    for host in hosts:
        assert {PROXY, NEXT_PROXY} & set(host.running())
        host.expire()
    upgrade(Deployer(hosts, NEW).site)
    assert instances(hosts) == [proxy_instance(Deployer(hosts, NEW).site)] * 2


TLS = environment(("[service]", "[proxy]\ntls = {certificate = 'c', key = 'k'}\n[service]"))


@pytest.mark.parametrize("env", [NEW, TLS], ids=["port", "TLS"])
def test_a_release_starts_a_proxy_that_was_stopped_and_tells_of_old_settings(hosts, env):
    """It does not replace it, which costs riders something, and asks it where it listens."""
    hosts[0].change(PROXY, status="exited")
    old = instances(hosts)
    deployer = Deployer(hosts, env)
    deploy(deployer.site, target("c"), How(bake=0))
    assert deployer.tells("the proxy on one, two has older settings: `inv proxy-upgrade`")
    assert instances(hosts) == old and all(PROXY in h.running() for h in hosts)


def test_a_host_tells_how_its_proxy_is_reached(hosts):
    """By the files that it was started with, not by the environment."""
    one = hosts[0]
    assert one.state().front == environment().proxy.model_copy(update={"tls": None})
    (one.root / "proxy" / instances(hosts)[0] / "tls").mkdir()
    pem = "-----BEGIN\nline\n"
    (one.root / "proxy" / instances(hosts)[0] / "tls" / "certificate.pem").write_text(pem)
    assert one.state().front.tls.certificate == pem
    (one.root / "proxy" / "half-written").mkdir()
    assert one.state().front.port == 8000
    one.change(PROXY, labels="")
    assert one.state().front is None


def test_tls_files_are_written_for_the_proxy_alone(hosts):
    """Mode 0600; its name changes with the certificate."""
    tls = "[proxy]\ntls = {certificate = 'c1', key = 'k'}\n[service]"
    env = environment(("[service]", tls))
    site = Deployer(hosts, env).site
    other = Deployer(hosts, environment(("[service]", tls.replace("c1", "c2")))).site
    assert proxy_instance(site) != proxy_instance(other) != proxy_instance(Deployer(hosts).site)
    with pytest.raises(BikecastError):
        upgrade(site)  # the fake proxy speaks no TLS: its smoke test fails
    folder = hosts[0].root / "proxy" / proxy_instance(site) / "tls"
    assert (folder / "key.pem").read_text() == "k"
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600


def test_replacing_fails_loudly_where_there_is_no_next_one(hosts):
    """The old one is not taken away for nothing."""
    one = hosts[0]
    one.run(commands.take_lock("/opt/bikecast", "token", "{}"))
    with pytest.raises(CommandFailed):
        one.run(commands.replace_proxy("/opt/bikecast", "token", "i7"))
    assert PROXY in one.running()
