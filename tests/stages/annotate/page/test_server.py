"""A real server: it starts, says where it is, ends, and survives being killed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from slim.errors import AnnotationError, SlimError, SlimWarning
from slim.stages.annotate.page import server as module
from slim.stages.annotate.page.server import BrowserAnnotator, notebook_announcement, serving
from slim.stages.annotate.page.session import Pool, Session
from slim.stages.annotate.queries import Queries
from slim.stages.annotate.store import Store

TOKEN = "secret-of-the-test"
Ask = Callable[..., Queries]


def test_serving_tells_news_and_ends(session: Session) -> None:
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, finished):
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(link).status_code == 200
            home = link.partition("?")[0]
            before = browser.get(f"{home}api/summary").json()
            body = {"annotator": "ann", "posts": [{"key": "a", "index": 0, "answer": "core"}]}
            browser.post(f"{home}api/posts", json=body)
            deadline, news = monotonic() + 30, {}
            while news.get("people") != {"ann": 1}:
                assert monotonic() < deadline
                response = browser.get(f"{home}api/summary", params={"version": news.get("version", before["version"])})
                news = response.json() if response.status_code == 200 else news
            browser.post(f"{home}api/finish", json={})
        assert finished.is_set()
    with pytest.raises(httpx.ConnectError):
        httpx.get(link)


@pytest.mark.parametrize("hangs_up", [True, False])
def test_request_that_is_cut_off_leaves_no_traceback(
    session: Session, capfd: pytest.CaptureFixture[str], hangs_up: bool
) -> None:
    head = f"POST /api/posts?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{{}}\r\nContent-Type: application/json\r\n"
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, _):
        port = int(link.split(":")[2].split("/")[0])
        line = socket.create_connection(("127.0.0.1", port), timeout=20)
        line.sendall(f"{head.format(port)}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100")  # the server reads the body, which never comes
        if hangs_up:
            line.close()
            httpx.get(link)  # meanwhile it has noticed
    line.close()
    assert capfd.readouterr().err == ""


def test_serving_says_what_is_wrong_with_an_address(session: Session) -> None:
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, _):
        port = int(link.split(":")[2].split("/")[0])
        with pytest.raises(SlimError, match=r"The page must have an address of its own. Got 127.0.0.1, port"):
            serving(session, "127.0.0.1", port, TOKEN).__enter__()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("a" * 70, 0)])
def test_an_address_that_cannot_be_is_refused(session: Session, host: str, port: int) -> None:
    with pytest.raises(SlimError, match=rf"must have an address of its own. Got {host}, port {port}: .*[^.]\. Omit"):
        serving(session, host, port, TOKEN).__enter__()


class Visitor:
    """Stands in for the browser that is opened: answers the first queries, and says that it is done."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def __call__(self, link: str) -> bool:
        home = link.partition("?")[0]
        with httpx.Client(follow_redirects=True) as browser:
            browser.get(link)
            queue = browser.get(f"{home}api/session").json()["queue"]
            posts = [{"key": f"k{i}", "index": queue[i]["index"], "answer": "core"} for i in range(self.answers)]
            browser.post(f"{home}api/posts", json={"annotator": "ann", "posts": posts})
            browser.post(f"{home}api/finish", json={})
        return True


def test_browser_annotator_gives_positions_of_the_pool(
    ask_about: Ask, store: Store, shown: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.webbrowser, "open", Visitor(2))
    frame = BrowserAnnotator().judge(ask_about(1, 6), store, shown).frame
    assert frame[["index", "answer", "annotator"]].values.tolist() == [[1, "core", "ann"], [6, "core", "ann"]]


def test_browser_annotator_warns_of_queries_without_an_answer(
    ask_about: Ask, store: Store, shown: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.webbrowser, "open", Visitor(0))
    with pytest.raises(AnnotationError, match="At least one query must be answered"):
        BrowserAnnotator().judge(ask_about(1, 6), store, shown)
    monkeypatch.setattr(module.webbrowser, "open", Visitor(1))
    with pytest.warns(SlimWarning, match="1 of 2 queries got no answer on the page"):
        assert len(BrowserAnnotator().judge(ask_about(1, 6), store, shown)) == 1


def test_browser_annotator_keeps_its_address_for_the_next_time(
    tmp_path: Path, ask_about: Ask, store: Store, shown: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[str] = []

    def visit(link: str) -> bool:
        links.append(link)
        return Visitor(1)(link)

    monkeypatch.setattr(module.webbrowser, "open", visit)
    for _ in range(2):
        BrowserAnnotator(folder=tmp_path).judge(ask_about(3), store, shown)
    assert links[0] == links[1]
    assert (tmp_path / "page.json").stat().st_mode & 0o777 == 0o600


def test_notebook_gets_another_token_each_time_and_keeps_its_port(
    tmp_path: Path, ask_about: Ask, store: Store, shown: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[str] = []
    monkeypatch.setattr(module, "in_notebook", lambda: True)

    def announce(link: str, host: str) -> None:
        links.append(link)
        home, _, token = link.partition("?token=")
        body = {"annotator": "ann", "posts": [{"key": token, "index": 3, "answer": "core"}]}
        with httpx.Client(params={"token": token}) as browser:
            browser.post(f"{home}api/posts", json=body).raise_for_status()
            browser.post(f"{home}api/finish", json={}).raise_for_status()

    monkeypatch.setattr(module, "_announce", announce)
    for _ in range(2):
        BrowserAnnotator(folder=tmp_path).judge(ask_about(3), store, shown)
    (first, one), (second, other) = (link.split("token=") for link in links)
    assert first == second
    assert one != other
    assert min(len(one), len(other)) >= 32


@pytest.mark.parametrize("kept", ["[]", "{", '{"port": "x"}', '{"port": 0, "token": "a"}', '{"port": 1e9, "token": 3}'])
def test_address_that_somebody_else_wrote_gives_no_token(tmp_path: Path, kept: str) -> None:
    (tmp_path / "page.json").write_text(kept)
    port, token = BrowserAnnotator(folder=tmp_path)._address()
    assert (port, len(token)) == (0, 32)


def test_token_is_in_no_log(session: Session, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level("DEBUG")
    with serving(session, "127.0.0.1", 0, TOKEN) as (link, _):
        for path in ("", "&x=1", "x"):
            httpx.get(link + path, headers={"Origin": "null"} if path else {})
    assert all(
        TOKEN not in record.getMessage() for record in caplog.records if record.name.startswith(("uvicorn", "slim"))
    )
    assert TOKEN not in "".join(capfd.readouterr())


def test_announcement_over_ssh_has_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 22")
    text = "\n".join(module.announcement("http://127.0.0.1:8123/?token=t", "127.0.0.1", ssh=True))
    assert "ssh -N -L 8123:127.0.0.1:8123" in text
    assert "@10.0.0.2" in text
    open_to_all = "\n".join(module.announcement("http://127.0.0.1:8123/?token=t", "0.0.0.0", ssh=False))
    assert "anyone who can reach this machine and has the link sees the photos" in open_to_all


def test_announcement_to_a_network_says_how_others_find_the_page() -> None:
    wide = "\n".join(module.announcement("http://127.0.0.1:8123/?token=t", "0.0.0.0", ssh=False))
    assert "Others replace 127.0.0.1 with this machine's name or address" in wide
    named = "\n".join(module.announcement("http://192.168.0.7:8123/?token=t", "192.168.0.7", ssh=False))
    assert "Others replace" not in named  # the link has it already


def test_killed_server_has_every_answer_that_it_called_saved(killable: Any) -> None:
    sent, saved = 0, set()
    for _ in range(3):
        home = killable.link.partition("?")[0]
        with httpx.Client(follow_redirects=True, timeout=10) as browser:
            browser.get(killable.link)
            known = {index for index, _ in browser.get(f"{home}api/session?annotator=ann").json()["answers"]}
            assert saved <= known
            for _ in range(18):
                post = {"key": f"k{sent}", "index": sent, "answer": "core"}
                body = {"annotator": "ann", "posts": [post]}
                if browser.post(f"{home}api/posts", json=body).is_success:
                    saved.add(sent)
                sent += 1
            killable.kill()
            killable.start()
    rows = killable.rows()
    assert {index for index, *_ in rows} == saved
    assert len(rows) == len(saved) == 54


def test_eight_annotators_lose_and_double_nothing_over_a_kill(killable: Any) -> None:
    def answer_all(number: int) -> int:
        saved = 0
        for index in range(15):
            post = {"key": f"{number}-{index}", "index": index, "answer": "core"}
            body = {"annotator": f"annotator {number}", "posts": [post]}
            while not _saved(killable.link, body):
                sleep(0.05)
            saved += 1
        return saved

    with ThreadPoolExecutor(8) as threads:
        saved = [threads.submit(answer_all, number) for number in range(8)]
        while len(killable.rows()) < 40:
            sleep(0.01)
        killable.kill()
        killable.start()
        assert sum(one.result() for one in saved) == 120
    rows = killable.rows()
    assert len(rows) == len({(index, who) for index, _, who in rows}) == 120


def _saved(link: str, body: dict[str, Any]) -> bool:
    """Whether the server says that it has these answers."""
    home, _, token = link.partition("?token=")
    try:
        return httpx.post(f"{home}api/posts", params={"token": token}, json=body).is_success
    except httpx.TransportError:
        return False


def test_notebook_says_what_to_do_where_its_frame_stays_empty() -> None:
    link = "http://127.0.0.1:8000/?token=t"
    hub, code, plain = (
        "\n".join(notebook_announcement(link, names))
        for names in ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}, {"VSCODE_PID": "1"}, {})
    )
    assert "pip install jupyter-server-proxy" in hub
    assert "add port 8000 in the panel Ports" in code
    assert all("ssh -N -L 8000:127.0.0.1:8000" in text for text in (hub, code, plain))
    assert all(link in text for text in (hub, code, plain))
