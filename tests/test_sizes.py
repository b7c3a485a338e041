"What is too large is refused before anything is made of it."
import pytest

from gan_nb import Run
from gan_nb.cli import main
from helpers import tiny


@pytest.mark.parametrize("setting, why", [
    ("hidden=1000000000", "GiB would be needed"), ("z_dim=1000000000", "GiB would be needed"),
    ("batch_size=1000000000", "GiB would be needed"), ("hidden=" + "9" * 30, "at most"),
    ("n_disc=1000000000000", "at most 1,000"), ("pack=100000000", "at most 1,000"),
    ("threads=1000000000", "threads: '1000000000' came; allowed is a whole number of at most"),
    ("rounds=" + "9" * 30, "at most"), ("hidden=" + "8 " * 5000, "layers came")])
def test_absurd_sizes_are_refused_before_anything_is_made(setting, why, tmp_path, capsys):
    assert main(["train", "ring", "--out", str(tmp_path/"a"), "--rounds", "2", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1 and not (tmp_path/"a").exists()


def test_absurd_numbers_of_samples_are_refused(tmp_path, capsys):
    run = Run("ring", **tiny)
    for ask in (run.samples, run.real):
        with pytest.raises(ValueError, match="n: 1,000,000,000,000 samples: at least .* GiB would be needed"):
            ask(10**12)
    with pytest.raises(ValueError, match="GiB would be needed"): run.edit(batch_size=10**9)
    assert run.recipe.batch_size == 16 and run.edits == []
    run.save(tmp_path/"a")
    for words in (["sample", "--n", "1" + "0" * 14, "--out", str(tmp_path/"b.npy")],
            ["resume", "--rounds", "9" * 30], ["evaluate", "--n", "1" + "0" * 14]):
        assert main([words[0], str(tmp_path/"a"), *words[1:]]) == 2
        assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path/"b.npy").exists()


def test_as_many_checkpoints_as_can_be_counted(tmp_path, capsys):
    "what is written can be read"
    with pytest.raises(ValueError, match="keep: 9223372036854775808 came; allowed is a whole number below"):
        Run("ring", keep=2**63, **tiny)
    assert main(["train", "ring", "--out", str(tmp_path/"a"), "--rounds", "2", "--keep", str(2**63)]) == 2
    assert not (tmp_path/"a").exists()
    Run("ring", keep=2**63 - 1, **tiny).save(tmp_path/"b")
    assert Run.load(tmp_path/"b", device="cpu").keep == 2**63 - 1
