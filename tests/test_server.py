"The server that JupyterLab is given: is the option set on the socket to the page, and what a person configured kept?"
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

# A server that says of each page that connects to a kernel by which class, and whether the option is set.
telling = '''
import socket, sys
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
connected = KernelWebsocketHandler.open
async def tell(handler, kernel_id):
    await connected(handler, kernel_id)
    option = handler.ws_connection.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    print("seen", type(handler.connection).__name__, bool(option), file=sys.stderr, flush=True)
KernelWebsocketHandler.open = tell
'''
plain = "from jupyterlab.labapp import LabApp; LabApp.launch_instance(sys.argv[1:])"
ours = "from gan_nb.server import serve_lab; serve_lab(sys.argv[1:])"
cli = "from gan_nb.cli import main; main(['lab', '--', *sys.argv[1:]])"
own_class = '''
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
class Own(ZMQChannelsWebsocketConnection): pass
c.ServerApp.kernel_websocket_connection_class = Own
'''


def connect(folder, serve, config=""):
    "Start a server in `folder`, open a kernel's websocket; what the server says of it, and its log."
    with started(folder, serve, config) as (address, server, log):
        kernel = when_it_answers(f"{address}/api/kernels", server, log)
        asyncio.run(look(f"ws{address[4:]}/api/kernels/{kernel['id']}/channels?session_id=ours"))
        return seen(log), log.read_text()


@contextmanager
def started(folder, serve, config="", words=()):
    "For `with`: a server's address, its process and its log."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder/name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    (folder/"config").mkdir()
    (folder/"config/jupyter_server_config.py").write_text(config)
    words = [*words, "--no-browser", "--allow-root", "--ServerApp.token=ours", f"--ServerApp.port={port}"]
    log = folder/"log"
    with open(log, "w") as said:
        server = subprocess.Popen([sys.executable, "-c", telling + serve, *words], cwd=folder, stdout=said, stderr=said,
            env={**os.environ, **own})
    try: yield f"http://127.0.0.1:{port}", server, log
    finally:
        server.terminate()
        server.wait(60)


def when_it_answers(url, server, log, seconds=120, data=b"{}"):
    ask = urllib.request.Request(url, data, {"Authorization": "token ours"})
    until = time.monotonic() + seconds
    while True:
        try: return json.load(urllib.request.urlopen(ask, timeout=60))
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until: pytest.fail(f"{error}\n{log.read_text()[-2000:]}")
            time.sleep(.2)


async def look(url):
    "Connect, and wait for the kernel's first word."
    page = await websocket_connect(HTTPRequest(url, headers={"Authorization": "token ours"}))
    await page.write_message(json.dumps(dict(channel="shell", parent_header={}, metadata={}, content={}, buffers=[],
        header=dict(msg_id="a", msg_type="kernel_info_request", username="", session="ours", date="", version="5.3"))))
    await asyncio.wait_for(page.read_message(), 60)
    page.close()


def seen(log, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            if line.startswith("seen "): return line.split()[1:]
        time.sleep(.1)
    pytest.fail(log.read_text()[-2000:])


def test_the_lab_command_serves_without_delay(tmp_path):
    found, log = connect(tmp_path, cli)
    assert found == ["NoDelayConnection", "True"]
    assert "jupyterlab | extension was successfully loaded" in log
    assert (tmp_path/"start.ipynb").is_file()


def test_what_a_person_configured_stays(tmp_path):
    found, _ = connect(tmp_path, ours, own_class)
    assert found[0] == "Own"


def test_a_server_of_ones_own_can_be_told_to(tmp_path):
    "As Notebook 7 would be: the same option, of the same server."
    told = "c.ServerApp.kernel_websocket_connection_class = 'gan_nb.server.NoDelayConnection'"
    found, _ = connect(tmp_path, plain, told)
    assert found == ["NoDelayConnection", "True"]


def sessions(address, server, log): return when_it_answers(f"{address}/api/sessions", server, log, data=None)


def test_the_kernel_of_the_notebook_that_is_opened_starts_ahead(tmp_path):
    "The page has not been loaded, and a session by the notebook's path is there."
    from gan_nb.server import starter_name, write_starter
    (tmp_path/"work").mkdir()
    write_starter(tmp_path/"work"/starter_name)
    with started(tmp_path, ours, words=[f"work/{starter_name}", f"--ServerApp.root_dir={tmp_path}"]) as (address, *rest):
        until = time.monotonic() + 60
        while not (found := sessions(address, *rest)) and time.monotonic() < until: time.sleep(.2)
        assert [(s["path"], s["type"], s["kernel"]["name"]) for s in found] == [("work/start.ipynb", "notebook", "python3")]


def test_a_notebook_without_a_kernel_of_its_own_starts_none(tmp_path):
    "Neither a kernel that is not installed nor a file that is no notebook may keep the server from starting."
    (tmp_path/"odd.ipynb").write_text('{"metadata": {"kernelspec": {"name": "of another machine"}}, "cells": []}')
    (tmp_path/"broken.ipynb").write_text("no JSON")
    for name, said in (("odd", "No such kernel"), ("broken", "Expecting value")):
        folder = tmp_path/name
        folder.mkdir()
        with started(folder, ours, words=[str(tmp_path/f"{name}.ipynb")]) as (address, server, log):
            until = time.monotonic() + 60
            while "was not started ahead" not in log.read_text() and time.monotonic() < until: time.sleep(.2)
            assert re.search(f"was not started ahead.*{said}", log.read_text())
            assert sessions(address, server, log) == []


def test_nothing_is_asked_about_news(server):
    "The default of the setting by which the page decides whether to ask."
    address, token, _ = server
    about = "@jupyterlab/apputils-extension:notification"
    told = json.load(urllib.request.urlopen(f"{address}/lab/api/settings/{about}?token={token}", timeout=60))
    asked = told["schema"]["properties"]
    assert (asked["fetchNews"]["default"], asked["checkForUpdates"]["default"]) == ("false", False)


def test_the_server_does_not_wait_for_pytorch():
    code = "import sys, gan_nb.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
