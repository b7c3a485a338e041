"The stage's page: its module is one that browsers load as it is, needs no network, and its pure functions are right."
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gan_nb import Run
from gan_nb.doctor import diagnose, line
from gan_nb.lab import Lab
from gan_nb.patients import patient
from gan_nb.stage import draw_frame
from gan_nb.words import english, speak

root = Path(__file__).resolve().parents[1]
source = (root/"gan_nb/stage.js").read_text(encoding="utf-8")
style = (root/"gan_nb/stage.css").read_text(encoding="utf-8")
node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@node
def test_its_pure_functions_in_nodes_own_runner():
    done = subprocess.run(["node", "--test", root/"tests/stage.test.mjs"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.M)[1]) >= 11


def test_nothing_comes_from_a_network():
    for text in (source, style):
        assert not re.search(r"\bimport\s*[({'\"]|\bfetch\(|XMLHttpRequest|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_word_that_the_page_asks_for_is_in_the_table():
    asked = set(re.findall(r"word\(\"(\w+)\"\)", source))
    assert asked and asked <= set(english), asked - set(english)


def test_arrays_travel_with_the_types_that_the_page_knows():
    from gan_nb.stage import Frame, Wire
    import numpy as np
    wire = Wire()
    frame = Frame(surface=np.array([[0., .5, 1.]]), fake=np.zeros((2, 2)), pictures=np.zeros((1, 2, 2, 1), np.uint8), folded=np.ones((1, 1), bool))
    message, buffers = wire.message(frame)
    sent = {a["name"]: (a["dtype"], memoryview(b).nbytes) for a, b in zip(message["arrays"], buffers)}
    assert sent == {"surface": ("uint8", 3), "fake": ("float32", 16), "pictures": ("uint8", 4), "folded": ("float32", 4)}
    assert {dtype for dtype, _ in sent.values()} <= set(re.findall(r"(float32|uint8|int32):", source))


@pytest.fixture
def chinese():
    "settings.ini may say it; here the recipe does."
    yield dict(language="zh")
    speak("en")


def test_panels_and_findings_in_chinese(chinese):
    run = Run("ring", hidden=(8,), batch_size=8, threads=1, device="cpu", **chinese).fit(5, progress=False)
    assert diagnose(run)[0].title == "Too early"
    lab = Lab(run)
    try:
        assert lab.spec["words"]["play"] == "播放" and lab.words()["round"] == "第 5 轮"
        found = diagnose(run)
        assert found[0].title == "为时过早" and line(found).startswith("为时过早: ") and line(found).endswith("。")
        run.edit(lr_gen=.5)
        run.step("disc")
        told = json.dumps([lab.said(), lab.spec["parts"]], ensure_ascii=False)
        assert "判别器走了一步" in told and "Generator" not in told
        draw_frame(lab.frame()) # in English: figures have no other letters
    finally: lab.close()
    ill = Run(patient("no_variety")).fit(60, progress=False)
    assert all(f.title not in english.values() and f.why for f in diagnose(ill))
    with pytest.raises(ValueError, match="language: 'xx' is unknown; allowed are en, zh"): Run("ring", language="xx")
