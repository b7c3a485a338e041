"What a bound would have done to recorded norms is what the transform and PyTorch's own clip do to gradients of these norms; replayed, it is what a run did."
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from gan_nb import Run
from gan_nb.hindsight import in_hindsight
from gan_nb.transforms import clip_by_global_norm

lengths = st.floats(2**-20, 2**20, width=32)


@settings(max_examples=15, deadline=None)
@given(st.lists(lengths, min_size=1, max_size=5), lengths)
def test_equals_the_transform_and_torchs_own_clip(norms, bound):
    seen = in_hindsight({"grad_norm_disc": np.array(norms)}, "disc", ("global_norm", bound))
    clip = clip_by_global_norm(bound)
    for norm, after, clipped in zip(norms, seen.after, seen.clipped):
        one = {"w": torch.tensor([norm], dtype=torch.float64)}
        grads, state = clip.update(one, clip.init(one))
        assert (after, clipped) == (grads["w"].item(), bool(state["clipped"])), "to the bit"
        weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        weight.grad = one["w"].clone()
        torch.nn.utils.clip_grad_norm_([weight], bound)
        assert after == pytest.approx(weight.grad.item(), rel=1.01e-6 / min(norm, 1)), "theirs divides by the norm and 1e-6"


@pytest.mark.parametrize("clip", [("global_norm", .4), ("quantile", .5)], ids=["global norm", "quantile"])
def test_a_clip_that_was_there_from_the_start_is_replayed(clip):
    run = Run("ring", seed=1, batch_size=16, hidden=(8,), clip_disc=clip)
    run.fit(40, progress=False)
    seen, records = in_hindsight(run.records, "disc", clip, last=25), run.records
    assert np.array_equal(seen.norms, records["grad_norm_disc"][-25:])
    assert np.array_equal(seen.clipped, records["clipped_disc"][-25:] > 0) and 0 < seen.share < 1
    np.testing.assert_allclose(seen.after, records["update_norm_disc"][-25:], rtol=1e-5)
