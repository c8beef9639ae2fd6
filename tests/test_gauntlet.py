"""The short form of `make gauntlet`: a few cases of every attack."""

import random
from pathlib import Path

import pytest

import gauntlet


@pytest.mark.parametrize("name", gauntlet.ATTACKS)
def test_attack_is_held_off(name: str, tmp_path: Path):
    attack = gauntlet.load(name)
    cases = list(attack.attack(random.Random(f"{name} 0"), attack.FEW, tmp_path))
    assert len(cases) == attack.FEW
    assert [case for case in cases if case.fault] == []
