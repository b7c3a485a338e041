"The server that JupyterLab is given: is the option set on the socket to the page, and what a person configured kept?"
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

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
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder/name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    (folder/"config").mkdir()
    (folder/"config/jupyter_server_config.py").write_text(config)
    words = ["--no-browser", "--allow-root", "--ServerApp.token=ours", f"--ServerApp.port={port}"]
    log = folder/"log"
    with open(log, "w") as said:
        server = subprocess.Popen([sys.executable, "-c", telling + serve, *words], cwd=folder, stdout=said, stderr=said,
            env={**os.environ, **own})
    try:
        kernel = when_it_answers(f"http://127.0.0.1:{port}/api/kernels", server, log)
        asyncio.run(look(f"ws://127.0.0.1:{port}/api/kernels/{kernel['id']}/channels?session_id=ours"))
        return seen(log), log.read_text()
    finally:
        server.terminate()
        server.wait(60)


def when_it_answers(url, server, log, seconds=120):
    ask = urllib.request.Request(url, b"{}", {"Authorization": "token ours"})
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


def test_the_server_does_not_wait_for_pytorch():
    code = "import sys, gan_nb.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
