"""The notebooks of the panels and populations that need a kernel run in a real one.

`nbdev-test` runs the cells of the other notebooks without a kernel; no error of a widget or a thread fails it, and here it does."""
import pytest

import notebooks as nbs

some = [p for p in nbs.paths() if nbs.needs_kernel(p) and (nbs.number(p) or 0) >= 60] # the rest: test_kernels_*


@pytest.mark.parametrize("path", some, ids=lambda p: str(p.relative_to(nbs.root)))
def test_runs_in_a_kernel(path, project):
    assert nbs.kernel_errors(nbs.execute(project/path.relative_to(nbs.root))) == []
