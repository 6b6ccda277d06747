"""What dask's workers and dashboard tell of caches."""

from __future__ import annotations

import sys
import time
from urllib.request import urlopen

import chromium
import dask.array as da
import pytest
from bokeh.document import Document
from distributed import Client, LocalCluster
from persicache_dask import CacheWorkerPlugin, DashboardPlugin, ResultCache
from persicache_dask.page import cache_page

from persicache import MissingDependency, Stats, persistent_memoize


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(CacheWorkerPlugin())
        client.register_plugin(DashboardPlugin())
        yield client


@pytest.fixture
def add(tmp_path):
    @persistent_memoize(tmp_path / "store")
    def add(x, y):
        return x + y

    return add


def told(client):
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {address: worker["metrics"].get("persicache") for address, worker in workers.items()}


def wait_for(condition):
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def known(client):
    """Return what all workers tell, once they do."""
    return wait_for(lambda: all(told(client).values()) and told(client))


def url_of(client, page):
    return client.dashboard_link.removesuffix("status") + page


def call(client, function, *calls, worker):
    client.gather([client.submit(function, *args, workers=[worker], pure=False) for args in calls])


def test_each_worker_tells_hits_misses_and_bytes(client, add):
    before = known(client)
    one, other = before
    call(client, add, (1, 2), (1, 2), (1, 2), (3, 4), worker=one)
    call(client, add, (1, 2), worker=other)
    after = wait_for(
        lambda: (
            (now := told(client))[one]["misses"] >= before[one]["misses"] + 2
            and now[one]["hits"] >= before[one]["hits"] + 2
            and now[other]["hits"] > before[other]["hits"]
            and now
        )
    )
    grown = {at: {name: after[at][name] - before[at][name] for name in Stats._fields} for at in before}
    assert (grown[one]["hits"], grown[one]["misses"]) == (2, 2)
    assert (grown[other]["hits"], grown[other]["misses"]) == (1, 0)
    assert grown[one]["nbytes_saved"] == 2 * grown[other]["nbytes_saved"] > 0
    assert grown[other]["nbytes_saved"] in [entry.nbytes for entry in add.entries()]
    assert after[one]["pid"] != after[other]["pid"]


def test_what_a_result_cache_finds_is_told_too(client, tmp_path):
    ones = da.ones(8, chunks=4).map_blocks(lambda x: x + 1)
    before = known(client)
    with ResultCache(tmp_path / "results", min_seconds=0):
        for _ in range(2):
            assert (ones.compute() == 2).all()

    def grown(name):
        after = told(client)
        return sum(after[address][name] - before[address][name] for address in before)

    wait_for(lambda: (grown("hits"), grown("misses")) == (2, 2))


def test_a_plugin_that_is_taken_away_tells_no_more():
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(CacheWorkerPlugin())
        client.register_plugin(CacheWorkerPlugin())
        known(client)
        cluster.scale(2)
        wait_for(lambda: len(told(client)) == 2)
        known(client)  # the new one does, too
        client.unregister_worker_plugin("persicache-worker")
        wait_for(lambda: not any(told(client).values()))


def test_the_pages_document_shows_each_worker_and_the_total(client, add):
    known(client)
    scheduler = client.cluster.scheduler
    doc = Document()
    cache_page(scheduler, {}, doc)
    (panel,) = doc.components
    before = dict(panel.source.data)
    names = [str(worker.name) for worker in scheduler.workers.values()]
    assert before["worker"] == names
    one = next(iter(scheduler.workers))
    call(client, add, (5, 6), (5, 6), worker=one)
    wait_for(lambda: panel.update() or panel.source.data["hits"] != before["hits"])
    hits, misses = sum(panel.source.data["hits"]), sum(panel.source.data["misses"])
    assert (
        f"{hits:,} hits ({hits / (hits + misses):.0%} of the calls) and {misses:,} misses"
        in panel.heading.text
    )
    assert "from the store." in panel.heading.text
    assert panel.source.data["share"][0] == panel.source.data["hits"][0] / (
        panel.source.data["hits"][0] + panel.source.data["misses"][0]
    )
    doc.clear()


def test_workers_of_one_process_are_added_up_once(add):
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        doc = Document()
        cache_page(cluster.scheduler, {}, doc)
        (panel,) = doc.components
        assert "No worker tells" in panel.heading.text
        client.register_plugin(CacheWorkerPlugin())
        call(client, add, (7, 8), (7, 8), worker=next(iter(cluster.scheduler.workers)))

        def told_alike():
            panel.update()
            hits = panel.source.data["hits"]
            return len(hits) == 2 and hits[0] == hits[1] > 0

        wait_for(told_alike)
        assert f"{panel.source.data['hits'][0]:,} hits" in panel.heading.text


def test_the_tab_is_on_every_page_once(client):
    client.register_plugin(DashboardPlugin())
    for page in ("status", "workers", "persicache"):
        with urlopen(url_of(client, page)) as answer:
            assert answer.read().count(b'<a href="persicache">') == 1


def test_under_a_prefix_the_page_is_with_the_others():
    with (
        LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"http_prefix": "/team"},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(DashboardPlugin())
        port = cluster.scheduler.http_server.port
        with urlopen(f"http://127.0.0.1:{port}/team/persicache") as answer:
            assert b"<title>" in answer.read()


def test_a_scheduler_that_shows_nothing_is_an_error(monkeypatch):
    with (
        LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        with pytest.raises(ValueError, match="has no dashboard to add a tab to"):
            client.register_plugin(DashboardPlugin())
        monkeypatch.delitem(sys.modules, "persicache_dask.page")
        monkeypatch.setitem(sys.modules, "bokeh.document", None)
        with pytest.raises(MissingDependency, match=r"bokeh is not installed: .*persicache\[dask\]"):
            client.register_plugin(DashboardPlugin(), name="again")


@pytest.mark.skipif(chromium.installed() is None, reason="there is no Chromium on this machine")
def test_a_browser_shows_the_hits_live(client, add, tmp_path):
    before = known(client)
    worker = next(iter(before))
    hits, misses = (sum(each[name] for each in before.values()) for name in ("hits", "misses"))
    with chromium.browsing(chromium.installed(), tmp_path / "browser") as visit:
        page = visit(url_of(client, "persicache"))
        text = page.wait_for(f"{hits:,} hits")
        assert "Persicache" in text  # its tab
        assert "Hit rate" in text  # the table
        call(client, add, *[(9, 9)] * 12, worker=worker)
        text = page.wait_for(f"{hits + 11:,} hits")
        assert f"and {misses + 1:,} misses" in text
