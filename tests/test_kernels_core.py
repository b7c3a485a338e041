"""The notebooks of the core: networks, games, recipes and runs run in a real kernel.

`nbdev-test` runs cells without a kernel, and no error of a widget or a thread fails it; here they do."""
import pytest

import notebooks as nbs

some = [p for p in nbs.paths() if (n := nbs.number(p)) is not None and n < 50] # the rest: test_kernels_*


@pytest.mark.parametrize("path", some, ids=lambda p: str(p.relative_to(nbs.root)))
def test_runs_in_a_kernel(path, project):
    assert nbs.kernel_errors(nbs.execute(project/path.relative_to(nbs.root))) == []
