"""The law of random_transformers.py on the first models of an endless list; the script itself runs any of them."""
from conftest import PARE
from random_transformers import violations

MODELS = 160


def test_random_transformers_are_found_and_cut_whatever_their_dialect(tmp_path):
    found = violations(PARE, range(MODELS), tmp_path)
    assert not found, "\n".join(f"seed {seed}: {why}" for seed, why in found)
